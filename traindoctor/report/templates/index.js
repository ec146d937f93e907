(function () {
  "use strict";
  var table = document.querySelector("table.runs");
  if (!table) { return; }
  var body = table.tBodies[0];
  var rows = Array.prototype.slice.call(body.rows);
  var heads = Array.prototype.slice.call(table.tHead.rows[0].cells);
  var bar = document.querySelector(".filter");
  var field = document.getElementById("q");
  var select = document.getElementById("cause");
  var chips = Array.prototype.slice.call(bar.querySelectorAll("[data-verdict]"));
  var told = bar.querySelector("[role=status]");
  var none = document.querySelector(".none");
  var state = { q: "", verdict: [], cause: "", sort: "verdict", down: false };
  var order = new Map();
  rows.forEach(function (row, i) { order.set(row, { i: i, text: row.textContent.toLowerCase() }); });

  function valueOf(row, key, column) {
    if (key === "verdict") { return order.get(row).i; } // the order of the page: the worst first
    var cell = row.cells[column];
    if (key === "sure" || key === "onset") {
      var number = cell.getAttribute("data-v");
      return number === "" || number === "-1.0" ? null : Number(number);
    }
    return cell.textContent.trim().toLowerCase() || null;
  }

  function sorted() {
    var column = heads.findIndex(function (head) { return head.getAttribute("data-key") === state.sort; });
    var keyed = rows.map(function (row) { return { row: row, value: valueOf(row, state.sort, column), i: order.get(row).i }; });
    var words = new Intl.Collator(undefined, { numeric: true });
    keyed.sort(function (a, b) {
      if (a.value === null || b.value === null) { return (a.value === null) - (b.value === null) || a.i - b.i; } // what is unknown comes last
      var by = typeof a.value === "number" ? a.value - b.value : words.compare(a.value, b.value);
      return (state.down ? -by : by) || a.i - b.i;
    });
    return keyed.map(function (one) { return one.row; });
  }

  function show() {
    var shown = 0, words = state.q.toLowerCase().split(/\s+/).filter(Boolean);
    rows.forEach(function (row) {
      var text = order.get(row).text;
      row.hidden = !(
        (!state.verdict.length || state.verdict.indexOf(row.getAttribute("data-verdict")) >= 0) &&
        (!state.cause || row.getAttribute("data-cause") === state.cause) &&
        words.every(function (word) { return text.indexOf(word) >= 0; }));
      shown += row.hidden ? 0 : 1;
    });
    var all = document.createDocumentFragment();
    sorted().forEach(function (row) { all.appendChild(row); });
    body.appendChild(all);
    heads.forEach(function (head) {
      if (head.getAttribute("data-key") === state.sort) {
        head.setAttribute("aria-sort", state.down ? "descending" : "ascending");
      } else {
        head.removeAttribute("aria-sort");
      }
    });
    chips.forEach(function (chip) {
      chip.setAttribute("aria-pressed", String(state.verdict.indexOf(chip.getAttribute("data-verdict")) >= 0));
    });
    if (field.value !== state.q) { field.value = state.q; }
    if (select) { select.value = state.cause; }
    var filtered = shown < rows.length;
    told.textContent = (filtered ? shown.toLocaleString("en") + " of " : "") + rows.length.toLocaleString("en") + (rows.length === 1 ? " run" : " runs");
    bar.querySelector(".clear").hidden = !(state.q || state.verdict.length || state.cause);
    none.hidden = shown > 0;
  }

  // The view is in the address, so that it can be sent. A fragment without "=" is a place in the page, and not ours.
  function written() {
    var parts = new URLSearchParams();
    if (state.q) { parts.set("q", state.q); }
    if (state.verdict.length) { parts.set("verdict", state.verdict.join(" ")); }
    if (state.cause) { parts.set("cause", state.cause); }
    if (state.sort !== "verdict" || state.down) { parts.set("sort", (state.down ? "-" : "") + state.sort); }
    return parts.toString();
  }

  function read() {
    var hash = location.hash.slice(1);
    if (hash && hash.indexOf("=") < 0) { return; }
    var parts = new URLSearchParams(hash);
    var sort = (parts.get("sort") || "verdict").replace(/^-/, "");
    var known = chips.map(function (chip) { return chip.getAttribute("data-verdict"); });
    state.q = parts.get("q") || "";
    state.verdict = (parts.get("verdict") || "").split(/[ ,]/).filter(function (word) { return known.indexOf(word) >= 0; });
    state.cause = parts.get("cause") || "";
    if (select && !Array.prototype.some.call(select.options, function (o) { return o.value === state.cause; })) { state.cause = ""; }
    state.sort = heads.some(function (head) { return head.getAttribute("data-key") === sort; }) ? sort : "verdict";
    state.down = /^-/.test(parts.get("sort") || "");
    show();
  }

  function change(more) {
    Object.assign(state, more);
    show();
    var hash = written();
    try { history.replaceState(null, "", hash ? "#" + hash : "#"); } catch (error) { location.hash = hash; } // a frame without rights
  }

  heads.forEach(function (head) {
    var key = head.getAttribute("data-key");
    if (!key) { return; }
    var button = document.createElement("button");
    button.type = "button";
    while (head.firstChild) { button.appendChild(head.firstChild); }
    head.appendChild(button);
    button.addEventListener("click", function () {
      var first = key === "sure"; // the surest first
      change({ sort: key, down: state.sort === key ? !state.down : first });
    });
  });
  chips.forEach(function (chip) {
    chip.addEventListener("click", function () {
      var verdict = chip.getAttribute("data-verdict");
      var left = state.verdict.filter(function (word) { return word !== verdict; });
      change({ verdict: left.length === state.verdict.length ? left.concat(verdict) : left });
    });
  });
  document.querySelectorAll("button[data-cause]").forEach(function (button) {
    button.hidden = false;
    button.addEventListener("click", function () {
      change({ cause: button.getAttribute("data-cause"), verdict: [], q: "" });
      document.getElementById("runs").scrollIntoView();
      bar.querySelector(".clear").focus({ preventScroll: true });
    });
  });
  document.querySelectorAll(".clear").forEach(function (button) {
    button.addEventListener("click", function () {
      change({ q: "", verdict: [], cause: "" });
      field.focus({ preventScroll: true });
    });
  });
  field.addEventListener("input", function () { change({ q: field.value }); });
  if (select) { select.addEventListener("change", function () { change({ cause: select.value }); }); }
  addEventListener("hashchange", read);
  addEventListener("beforeprint", function () {
    document.querySelectorAll("details").forEach(function (fold) { fold.open = true; });
  });
  bar.hidden = false;
  read();
})();
