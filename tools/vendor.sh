#!/usr/bin/env bash
# Copy the JavaScript that the pages load from pinned npm packages into book/_static/vendor, which
# is committed, so that a fresh clone builds and reads without npm and without a network.
#   npm i --ignore-scripts mathjax@3.2.2 @jupyter-widgets/html-manager@1.0.15 requirejs@2.3.8
#   tools/vendor.sh node_modules
set -euo pipefail
N=${1:?the node_modules folder}
V="$(dirname "$0")/../book/_static/vendor"
rm -rf "$V"
mkdir -p "$V"/mathjax/output/chtml "$V"/mathjax/input/tex "$V"/widgets
cp "$N"/mathjax/LICENSE "$V"/mathjax/
xz -9e < "$N"/mathjax/es5/tex-chtml.js > "$V"/mathjax/tex-chtml.js.xz  # book/_ext unpacks
cp -r "$N"/mathjax/es5/output/chtml/fonts "$V"/mathjax/output/chtml/
cp -r "$N"/mathjax/es5/input/tex/extensions "$V"/mathjax/input/tex/
rm "$V"/mathjax/input/tex/extensions/all-packages.js  # the other extensions once more, in one file
cp "$N"/requirejs/require.js "$V"/widgets/
xz -9 < "$N"/@jupyter-widgets/html-manager/dist/embed-amd.js > "$V"/widgets/embed-amd.js.xz  # book/_ext unpacks
cp "$N"/@jupyter-widgets/html-manager/dist/*.woff2 "$V"/widgets/
cat > "$V"/widgets/paths.js <<'J'
// Where RequireJS and the widget manager find their own files: beside this one, not on a CDN.
(() => {
  const base = document.currentScript.src.replace(/\/[^/]*$/, "");
  window.requirejs.config({
    paths: { "@jupyter-widgets/html-manager/dist": base, "@jupyter-widgets": base },
  });
})();
J
cat > "$V"/README.md <<'R'
Third-party files, copied unchanged by `tools/vendor.sh` (the largest packed, `book/_ext` unpacks it): MathJax 3.2.2 (Apache-2.0, see
`mathjax/LICENSE`), RequireJS 2.3.8 (MIT), @jupyter-widgets/html-manager 1.0.15 (BSD-3-Clause) with
the Font Awesome web fonts it bundles (SIL OFL 1.1). `widgets/paths.js` is this book's own.
R
