// What the theme adds after the page has loaded: wide tables scroll by the keyboard, too, and the bar with the button of
// each block of code is no landmark.
new MutationObserver(() => {
  for (const frame of document.querySelectorAll(".md-typeset__scrollwrap:not([tabindex])")) frame.tabIndex = 0;
  for (const bar of document.querySelectorAll(".md-code__nav:not([role])")) bar.setAttribute("role", "none");
}).observe(document.body, { childList: true, subtree: true });
