(function () {
  "use strict";
  document.querySelectorAll("button[data-copy]").forEach(function (button) {
    var source = document.getElementById(button.getAttribute("data-copy"));
    var said = button.previousElementSibling;
    var done = function () {
      said.textContent = "Copied";
      setTimeout(function () { said.textContent = ""; }, 2000);
    };
    var byHand = function () {
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
