// Where RequireJS and the widget manager find their own files: beside this one, not on a CDN.
(() => {
  const base = document.currentScript.src.replace(/\/[^/]*$/, "");
  window.requirejs.config({
    paths: { "@jupyter-widgets/html-manager/dist": base, "@jupyter-widgets": base },
  });
})();
