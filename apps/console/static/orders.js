// The search form's times are those of the viewer's clock; without this script they are UTC.
"use strict";

{
  const field = document.getElementById("zone");
  const isGiven = ["since", "until"].some((name) => document.getElementById(name).value);
  // What was searched for in another zone stays what it was.
  if (!isGiven) {
    field.value = Intl.DateTimeFormat().resolvedOptions().timeZone;
    for (const label of document.querySelectorAll(".zone")) label.textContent = field.value;
  }
}
