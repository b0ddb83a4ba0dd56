// A table wider than its column scrolls sideways; the keyboard must be able to reach it.
const reach = () => {
  for (const table of document.querySelectorAll(".bd-article table")) {
    if (table.scrollWidth > table.clientWidth) table.tabIndex = 0;
    else table.removeAttribute("tabindex");
  }
};
document.addEventListener("DOMContentLoaded", reach);
document.fonts.ready.then(reach);
window.addEventListener("resize", reach);
