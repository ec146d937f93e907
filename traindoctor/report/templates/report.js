/* Copies patches and opens folds for printing. Without it the page says the same. */
(function () {
  "use strict";

  document.querySelectorAll("button[data-copy]").forEach(function (button) {
    const source = document.getElementById(button.getAttribute("data-copy"));
    const said = button.previousElementSibling;
    const done = function () {
      said.textContent = "Copied";
      setTimeout(function () { said.textContent = ""; }, 2000);
    };
    const byHand = function () {
      getSelection().selectAllChildren(source);
      if (document.execCommand("copy")) { done(); }
    };
    button.hidden = false;
    button.addEventListener("click", function () {
      if (navigator.clipboard) { navigator.clipboard.writeText(source.textContent).then(done, byHand); } else { byHand(); }
    });
  });
  addEventListener("beforeprint", function () {
    document.querySelectorAll("details").forEach(function (fold) { fold.open = true; });
  });
})();
