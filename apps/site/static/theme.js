// Runs before the page is drawn, so that it never shows in the wrong colours first.
"use strict";
document.documentElement.classList.add("script");
try {
  const theme = localStorage.getItem("theme");
  if (theme) document.documentElement.dataset.theme = theme;
} catch {
  // Storage may be switched off: the system's colours stay.
}
