/* Makes the figures ones to zoom into: uPlot over the drawings, which stay what is seen at rest, in print and wherever the
   data cannot be decoded. What is drawn here follows figures.py: same scales, ticks, strokes, marks and labels. */
(function () {
  "use strict";

  // -- numbers as the page writes them ----------------------------------------------------------------------------------

  const MINUS = "\u2212";
  const count = (n) => Math.round(n).toLocaleString("en-US");
  const plain = (v, digits) => v.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });

  function number(value, digits) {
    if (Number.isNaN(value)) { return "NaN"; }
    if (!Number.isFinite(value)) { return value > 0 ? "Inf" : MINUS + "Inf"; }
    const sign = value < 0 ? MINUS : "", size = Math.abs(value);
    if (size === 0) { return "0"; }
    if (size < 0.01 || size >= 1e6) {
      const [mantissa, exponent] = size.toExponential((digits || 2) - 1).split("e");
      return sign + Number(mantissa) + "e" + Number(exponent);
    }
    return sign + (size >= 999.5 ? count(size) : String(Number(size.toPrecision(3))));
  }

  function nice(width) {
    const unit = Math.pow(10, Math.floor(Math.log10(width)));
    return [1, 2, 2.5, 5, 10].map((m) => m * unit).find((v) => v >= width * (1 - 1e-9));
  }

  function tick(value, stride) {
    const size = Math.abs(value), sign = value < 0 ? MINUS : "";
    if (size < stride * 1e-6) { return "0"; }
    if (size >= 1e6 || stride < 1e-3) { return number(value, 3); }
    const decimals = Math.max(0, -Math.floor(Math.log10(stride) + 1e-9));
    const whole = Math.abs(stride * Math.pow(10, decimals) - Math.round(stride * Math.pow(10, decimals))) < 1e-6;
    return sign + plain(size, whole ? decimals : decimals + 1);
  }

  const power = (exponent) => ({ "-1": "0.1", 0: "1", 1: "10", 2: "100" })[exponent] || "1e" + exponent;

  /** The shortest decimal that is this float32; a float64 beyond its range is written in full. */
  function shortest(value) {
    if (Math.fround(value) !== value) { return String(value); }
    for (let digits = 4; digits < 9; digits++) {
      const near = Number(value.toPrecision(digits));
      if (Math.fround(near) === value) { return String(near); }
    }
    return String(value);
  }

  // -- the data of the page ---------------------------------------------------------------------------------------------

  async function inflated(text) {
    const packed = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  /** Columns of numbers: the bytes of each are shuffled, first bytes first. */
  function columnsOf(kinds, bytes) {
    let at = 0;
    return kinds.map(function ([kind, n, first]) {
      const size = kind === "f8" ? 8 : 4, length = kind === "step" ? n - 1 : n;
      const whole = new Uint8Array(length * size);
      for (let b = 0; b < size; b++) {
        for (let i = 0; i < length; i++) { whole[i * size + b] = bytes[at++]; }
      }
      if (kind === "f8") { return new Float64Array(whole.buffer); }
      if (kind === "f4") { return new Float32Array(whole.buffer); }
      const distance = new Int32Array(whole.buffer), step = new Float64Array(n);
      step[0] = first;
      for (let i = 0; i < length; i++) { step[i + 1] = step[i] + distance[i]; }
      return step;
    });
  }

  /** The first position in step[a..b), ascending, whose step is not below the one asked for. */
  function position(step, wanted, a, b) {
    while (a < b) {
      const middle = (a + b) >> 1;
      if (step[middle] < wanted) { a = middle + 1; } else { b = middle; }
    }
    return a;
  }

  /** A line with its columns, the stretches [a, b) in which steps go up, and the distance from which on a gap is shown. */
  function lineOf(told, columns, span) {
    const step = columns[told.step], value = columns[told.value];
    const stretches = [], distances = [];
    let start = 0;
    for (let i = 1; i < step.length; i++) {
      if (step[i] < step[i - 1]) { stretches.push([start, i]); start = i; }
      if (step[i] > step[i - 1]) { distances.push(step[i] - step[i - 1]); }
    }
    if (step.length) { stretches.push([start, step.length]); }
    distances.sort((a, b) => a - b);
    const usual = distances.length ? distances[distances.length >> 1] : 1;
    return Object.assign({}, told, {
      step, value, stretches, low: columns[told.low], high: columns[told.high], gap: Math.max(10 * usual, 0.01 * span),
    });
  }

  /** The position in a line nearest to a step, or -1 where the line is not drawn and has no point within `reach` steps. */
  function nearest(line, wanted, reach) {
    let best = -1, least = reach;
    for (const [a, b] of line.stretches) {
      const i = position(line.step, wanted, a, b);
      if (i > a && i < b && line.step[i] - line.step[i - 1] <= line.gap) { least = Infinity; }
      for (const j of [i - 1, i]) {
        if (j >= a && j < b && Math.abs(line.step[j] - wanted) <= least) { best = j; least = Math.abs(line.step[j] - wanted); }
      }
    }
    return best;
  }

  /** A line as it is drawn between two steps: lowest, median and highest of each of some columns, in parts that are joined. */
  function course(line, from, to, columns) {
    const { step, value, low, high } = line, parts = [];
    const seen = { parts, n: 0, least: Infinity, most: -Infinity, above: Infinity, marks: [], below: [] };
    const column = (i) => Math.floor((step[i] - from) / (to - from) * columns);
    for (const [a, b] of line.stretches) {
      const i = Math.max(a, position(step, from, a, b) - 1), j = Math.min(b, position(step, to, a, b) + 1);
      const single = j - i <= columns;
      let part = null;
      for (let k = i, stop; k < j; k = stop) {
        stop = k + 1;
        if (!single) { while (stop < j && column(stop) === column(k)) { stop++; } }
        const finite = [];
        let bottom = Infinity, top = -Infinity;
        for (let m = k; m < stop; m++) {
          const inside = step[m] >= from && step[m] <= to;
          if (!Number.isFinite(value[m])) {
            if (inside) { seen.marks.push([step[m], value[m], m]); }
            continue;
          }
          finite.push(value[m]);
          bottom = Math.min(bottom, low && !Number.isNaN(low[m]) ? low[m] : value[m]);
          top = Math.max(top, high && !Number.isNaN(high[m]) ? high[m] : value[m]);
          if (!inside) { continue; }
          seen.n++;
          seen.least = Math.min(seen.least, value[m]);
          seen.most = Math.max(seen.most, value[m]);
          if (value[m] > 0) { seen.above = Math.min(seen.above, value[m]); } else { seen.below.push(step[m]); }
        }
        if (!finite.length || (k > i && step[k] - step[k - 1] > line.gap)) { part = null; }
        if (!finite.length) { continue; }
        if (!part) { parts.push(part = { step: [], low: [], middle: [], high: [] }); }
        finite.sort((p, q) => p - q);
        const half = finite.length >> 1;
        part.step.push((step[k] + step[stop - 1]) / 2);
        part.low.push(bottom);
        part.middle.push(finite.length % 2 ? finite[half] : (finite[half - 1] + finite[half]) / 2);
        part.high.push(top);
      }
    }
    return seen;
  }

  // -- vertical axes ----------------------------------------------------------------------------------------------------

  /** The axis for what is in view, as the page chooses it for the whole run. */
  function scaleOf(courses, log) {
    const some = courses.filter((c) => c.n);
    if (log) {
      const positive = some.filter((c) => c.above < Infinity);
      if (positive.length) {
        let low = Math.min(...positive.map((c) => c.above)), high = Math.max(...positive.map((c) => c.most));
        if (positive[0] === courses[0]) { low = Math.max(low, positive[0].above * 1e-4); }
        if (high / low < 1.02) { low /= 3; high *= 3; }
        const pad = Math.pow(high / low, 0.06);
        return { log: true, low: Math.max(low / pad, 1e-320), high: Math.min(high * pad, 1e308), flat: null };
      }
    }
    if (!some.length) { return { log: false, low: 0, high: 1, flat: null, blank: true }; }
    const low = Math.min(...some.map((c) => c.least)), high = Math.max(...some.map((c) => c.most));
    if (high - low < 1e-12 * Math.max(Math.abs(low), Math.abs(high), 1e-300)) {
      const half = Math.abs(high) / 2 || 0.5;
      return { log: false, low: low - half, high: high + half, flat: high };
    }
    const pad = 0.06 * (high - low);
    return { log: false, low: low >= 0 && low <= 0.3 * high ? 0 : low - pad, high: high + pad, flat: null };
  }

  /** Where a value stands on the axis: its power of ten on a logarithmic one, kept within the panel. */
  function height(scale, value) {
    const at = scale.log ? Math.log10(Math.max(value, 1e-323)) : value;
    const [low, high] = ends(scale);
    return Math.min(high, Math.max(low, at));
  }

  const ends = (scale) => scale.log ? [Math.log10(scale.low), Math.log10(scale.high)] : [scale.low, scale.high];

  function ticksOf(scale, n) {
    if (scale.blank) { return []; }
    if (scale.flat !== null) { return [[scale.flat, number(scale.flat)]]; }
    const [bottom, top] = ends(scale);
    if (scale.log) {
      const low = Math.ceil(bottom - 1e-9), high = Math.floor(top + 1e-9);
      if (high - low >= 1) {
        const wanted = Math.max(1, Math.ceil((high - low + 1) / n));
        const stride = [1, 2, 3, 4, 6, 8, 10, 15, 20, 30, 50, 100].find((s) => s >= wanted) || 200, made = [];
        for (let e = low; e <= high; e++) { if (e % stride === 0) { made.push([Math.pow(10, e), power(e)]); } }
        return made.length ? made : [[Math.pow(10, low), power(low)]];
      }
      const base = Math.floor(bottom), fine = [];
      for (const e of [base, base + 1]) { for (const m of [1, 1.5, 2, 3, 5, 7]) { fine.push(m * Math.pow(10, e)); } }
      const inside = fine.filter((v) => v >= scale.low && v <= scale.high);
      if (inside.length >= 2) {
        const every = Math.max(1, Math.ceil(inside.length / n));
        return inside.filter((v, i) => i % every === 0).map((v) => [v, number(v)]);
      }
    }
    const span = scale.high - scale.low;
    if (!(span > 0)) { return [[scale.low, number(scale.low)]]; }
    const stride = nice(span / n), made = [];
    for (let k = Math.ceil(scale.low / stride - 1e-9); k <= scale.high / stride + 1e-9; k++) {
      made.push([k * stride, tick(k * stride, stride)]);
    }
    return made;
  }

  /** The ticks of a residual: zero, and twice its bound either way where that fits. */
  function ticksAbout(scale, bound) {
    const reach = scale.high >= 2.2 * bound ? 2 * bound : bound, digits = reach % 1 === 0 ? 0 : 1;
    return [[-reach, MINUS + plain(reach, digits)], [0, "0"], [reach, "+" + plain(reach, digits)]];
  }

  // -- one figure -------------------------------------------------------------------------------------------------------

  const COLOURS = ["ink", "soft", "fault", "fix", "rule", "grid", "seg", "ok", "paper"];
  const ORDER = { limit: 0, reproduced: 1, forecast: 1, observed: 2, second: 2, counterfactual: 3 };
  /** Pixels of a column in which labels look for room; marks of one kind that have a word each. */
  const COLUMN = 8, MOST_WORDS = 4;
  const PLURAL = { step: "steps", epoch: "epochs", row: "rows" };

  function palette() {
    const style = getComputedStyle(document.documentElement), made = {};
    COLOURS.forEach(function (name) { made[name] = style.getPropertyValue("--" + name).trim(); });
    made.sans = style.getPropertyValue("--sans").trim();
    return made;
  }

  function node(kind, name, text) {
    const made = document.createElement(kind);
    if (name) { made.className = name; }
    if (text) { made.textContent = text; }
    if (kind === "button") { made.type = "button"; }
    return made;
  }

  /** Make a figure of the page one to zoom into. `run` holds the steps in view, which all its figures share. */
  function figureOf(told, run, place, colours) {
    const svg = place.querySelector("svg");
    const bound = told.bands.find((band) => band.kind === "bound");
    const hero = svg.classList.contains("hero"), axis = svg.classList.contains("axis");
    const layer = node("div", "layer"), readout = node("div", "readout"), header = node("p", "at");
    const self = { told, place, layer, log: told.scale.log, refresh, build, resize, move, redraw, csv, key: told.key };
    let plot = null, scale = told.scale, courses = [], box = null, marks = [];
    const edges = new Map();

    layer.tabIndex = 0;
    layer.setAttribute("role", "application");
    layer.setAttribute("aria-label", told.name + ", to zoom into");
    layer.setAttribute("aria-describedby", run.help);
    readout.append(header);
    readout.hidden = true;
    const rows = told.lines.map(function (line) {
      const row = node("p", "t-" + colourOf(line)), value = node("b");
      row.append(node("i", line.role), line.name ? line.name + " " : "", value);
      readout.append(row);
      return { row, value };
    });
    place.append(layer);

    const strokeOf = (line) => Object.assign({}, run.strokes[line.role], line.dash ? { dash: line.dash } : {});
    function colourOf(line) {
      const colour = run.strokes[line.role].colour;
      return run.calm && colour === "fault" ? "soft" : colour;
    }
    const redOr = () => run.calm ? colours.soft : colours.fault;

    /** Lay the layer over the panel. What surrounds it: room for ticks, last values, the rail, the steps, the line upwards. */
    function measured() {
      const style = getComputedStyle(place), thread = svg.querySelector(".thread");
      const up = thread && getComputedStyle(thread).display !== "none" ? -Number(thread.getAttribute("y1")) : 0;
      const size = svg.getBoundingClientRect(), around = place.getBoundingClientRect();
      layer.style.top = size.top - around.top + "px";
      layer.style.height = size.height + "px";
      return {
        left: parseFloat(style.getPropertyValue("--left")) || 64, right: parseFloat(style.getPropertyValue("--right")) || 72,
        top: Math.max(24, up), bottom: axis ? 28 : 4, thread: up, width: size.width, height: size.height,
      };
    }

    function build() {
      if (plot) { return; }
      box = measured();
      const side = (name) => () => box[name];
      plot = new uPlot({
        width: box.left + box.width + box.right,
        height: box.top + box.height + box.bottom,
        padding: ["top", "right", "bottom", "left"].map(side),
        legend: { show: false },
        axes: [{ show: false }, { show: false }],
        scales: { x: { time: false, range: () => [run.from, run.to] }, y: { range: () => ends(scale) } },
        series: [{}].concat(ordered().map(function (line) {
          const stroke = strokeOf(line);
          return {
            stroke: () => colours[colourOf(line)],
            fill: () => colours[colourOf(line)] + "2b",  // colours are #rrggbb
            width: stroke.width, cap: stroke.round ? "round" : "butt",
            points: { show: false }, paths: (u) => pathsOf(u, line),
          };
        })),
        cursor: {
          y: false, points: { show: false }, drag: { x: true, y: false, setScale: false, dist: 6 },
          sync: { key: "figures", setSeries: false }, bind: { dblclick: () => null },
        },
        hooks: { drawClear: [under], drawSeries: [edge], draw: [over], setCursor: [read], setSelect: [select] },
      }, data(), layer);
      marks = told.lines.map(function (line) {
        const mark = node("i", "mark f-" + colourOf(line));
        plot.over.append(mark);
        return mark;
      });
      plot.over.append(readout);
      put();
      queueMicrotask(() => move(-10));  // uPlot takes up its scales in a microtask of its own
    }

    const ordered = () => told.lines.slice().sort((a, b) => ORDER[a.role] - ORDER[b.role]);
    const data = () => [[run.from, run.to]].concat(told.lines.map(() => [null, null]));

    function put() {
      plot.root.style.left = -box.left + "px";
      plot.root.style.top = -box.top + "px";
    }

    function resize() {
      box = measured();
      if (!plot) { return; }
      put();
      plot.setSize({ width: box.left + box.width + box.right, height: box.top + box.height + box.bottom });
      refresh();
    }

    /** Draw what is in view; at rest the drawing of the page itself is shown. */
    function refresh() {
      const drawn = run.zoomed || self.log !== told.scale.log;
      place.classList.toggle("live", drawn);
      if (!plot) { return; }
      const columns = Math.max(50, Math.floor(box.width / 1.34));
      courses = drawn ? told.lines.map((line) => course(line, run.from, run.to, columns)) : [];
      const blank = courses.every((one) => !one.n) && self.log === told.scale.log;
      scale = !drawn || bound || blank ? told.scale : scaleOf(courses, self.log);
      ordered().forEach(function (line, i) {  // in pixels of the device, which change as the browser zooms
        plot.series[i + 1].dash = strokeOf(line).dash.map((d) => d * devicePixelRatio);
      });
      const [min, max] = ends(scale);
      plot.batch(function () {
        plot.setData(data(), false);
        plot.setScale("x", { min: run.from, max: run.to });
        plot.setScale("y", { min, max });
      });
      move(plot.cursor.left, false);
    }

    function redraw() { if (plot) { plot.redraw(); } }

    const x = (step) => (step - run.from) / (run.to - run.from) * box.width;
    const y = (value) => { const [low, high] = ends(scale); return (high - height(scale, value)) / (high - low) * box.height; };
    const live = () => courses.length > 0;

    // drawing: canvas of uPlot, in CSS pixels from the corner of the panel

    function pathsOf(u, line) {
      if (!live()) { return null; }
      const ratio = u.bbox.width / box.width, stroke = new Path2D(), fill = new Path2D();
      const at = (step, value) => [u.bbox.left + x(step) * ratio, u.bbox.top + y(value) * ratio];
      for (const part of courses[told.lines.indexOf(line)].parts) {
        part.step.forEach(function (step, i) { stroke[i ? "lineTo" : "moveTo"](...at(step, part.middle[i])); });
        if (!line.band && !line.low) { continue; }
        part.step.forEach(function (step, i) { fill[i ? "lineTo" : "moveTo"](...at(step, part.high[i])); });
        for (let i = part.step.length - 1; i >= 0; i--) { fill.lineTo(...at(part.step[i], part.low[i])); }
        fill.closePath();
      }
      edges.set(line, fill);
      return { stroke, fill, clip: null, band: null, gaps: null, flags: 1 };
    }

    /** The edge of a range of values, so that one low among many is seen. */
    function edge(u, i) {
      const line = ordered()[i - 1];
      if (!line || !line.band || !live() || !edges.has(line)) { return; }
      const ctx = u.ctx, ratio = u.bbox.width / box.width;
      ctx.save();
      ctx.beginPath();
      ctx.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
      ctx.clip();
      ctx.globalAlpha = 0.3;
      ctx.lineWidth = 0.7 * ratio;
      ctx.setLineDash([]);
      ctx.strokeStyle = colours[colourOf(line)];
      ctx.stroke(edges.get(line));
      ctx.restore();
    }

    function pen(u, draw) {
      const ctx = u.ctx, ratio = u.bbox.width / box.width;
      ctx.save();
      ctx.setTransform(ratio, 0, 0, ratio, u.bbox.left, u.bbox.top);
      ctx.lineCap = "butt";
      ctx.setLineDash([]);
      ctx.textBaseline = "alphabetic";
      draw(ctx, {
        line(left, y0, right, y1, colour, width, dash) {
          const [x0, x1] = left === right ? [Math.floor(left) + 0.5, Math.floor(left) + 0.5] : [left, right];
          ctx.strokeStyle = colour;
          ctx.lineWidth = width || 1;
          ctx.setLineDash(dash || []);
          ctx.beginPath();
          ctx.moveTo(x0, y0);
          ctx.lineTo(x1, y1);
          ctx.stroke();
          ctx.setLineDash([]);
        },
        rect(x0, y0, x1, y1, colour) {
          ctx.fillStyle = colour;
          ctx.fillRect(x0, y0, x1 - x0, y1 - y0);
        },
        dot(cx, cy, radius, colour, hollow) {
          ctx.beginPath();
          ctx.arc(cx, cy, radius, 0, 7);
          ctx[hollow ? "strokeStyle" : "fillStyle"] = colour;
          ctx.lineWidth = 1;
          if (hollow) { ctx.stroke(); } else { ctx.fill(); }
        },
        up(at, base, colour) {
          ctx.fillStyle = colour;
          ctx.beginPath();
          ctx.moveTo(at - 4.5, base);
          ctx.lineTo(at + 4.5, base);
          ctx.lineTo(at, base - 8);
          ctx.fill();
        },
        text(words, left, base, colour, more) {
          const o = Object.assign({ size: 13, weight: 400, align: "left", halo: false }, more);
          ctx.font = o.weight + " " + o.size + "px " + colours.sans;
          ctx.textAlign = o.align;
          if (o.halo) {
            ctx.strokeStyle = colours.paper;
            ctx.lineWidth = 3;
            ctx.lineJoin = "round";
            ctx.globalAlpha = 0.75;
            ctx.strokeText(words, left, base);
            ctx.globalAlpha = 1;
          }
          ctx.fillStyle = colour;
          ctx.fillText(words, left, base);
        },
      });
      ctx.restore();
    }

    const within = (step) => step >= run.from && step <= run.to;

    /** What lies under the curves: the segment, ranges, the grid and its labels. */
    function under(u) {
      if (!live()) { return; }
      pen(u, function (ctx, draw) {
        const w = box.width, h = box.height;
        if (run.segment && !run.calm) {
          const [a, b] = run.segment.map((s) => Math.min(w, Math.max(0, x(s))));
          draw.rect(a, 0, b, h, colours.seg);
        }
        for (const band of told.bands) {
          ctx.globalAlpha = band.kind === "bound" ? 0.7 : 1;
          draw.rect(0, y(band.high), w, y(band.low), band.kind === "bound" ? colours.grid : colours.ok);
          ctx.globalAlpha = 1;
        }
        for (const [value, label] of bound ? ticksAbout(scale, bound.high) : ticksOf(scale, h >= 150 ? 4 : 3)) {
          const at = y(value);
          if (told.limits.some((one) => one.crossed && inScale(one.value) && Math.abs(y(one.value) - at) < 13)) { continue; }
          if (!bound) { draw.line(0, at, w, at, colours.grid); }
          draw.text(label, -10, at + 4, colours.soft, { size: 12, align: "right" });
        }
        if (bound) { draw.line(0, y(0), w, y(0), colours.rule); }
      });
    }

    const inScale = (value) => value >= scale.low && value <= scale.high;

    /** What lies over the curves: limits, the onset, events, last values, names, marks of what no line can show. */
    function over(u) {
      if (!live()) { return; }
      pen(u, function (ctx, draw) {
        const w = box.width, h = box.height, red = redOr(), wide = w > 500, taken = [];
        const heights = told.lines.map((line, i) => heightsOf(courses[i]));
        const share = run.onset === null ? 0 : x(run.onset) / w, beyond = share > 0 && share < 0.6 ? share + 0.02 : 0;
        told.lines.forEach(function (line, i) {
          const dots = courses[i].n <= w / 12;
          for (const part of courses[i].parts) {
            if (!dots && part.step.length > 1) { continue; }
            part.step.forEach(function (step, k) {
              if (within(step)) { draw.dot(x(step), y(part.middle[k]), 2, colours[colourOf(line)]); }
            });
          }
        });
        if (run.onset !== null && within(run.onset)) {
          const at = x(run.onset);
          draw.line(at, -box.thread, at, h, red);
          taken.push([at - 3, at + 3, 0, h]);
          if (hero) {
            const words = run.unit + " " + count(run.onset), leftwards = at > 0.3 * w, more = wide ? 42 : 0;
            ctx.font = "600 13px " + colours.sans;
            const left = leftwards ? at - 8 - more - ctx.measureText(words).width : at + 8;
            draw.text(words, left, 13, red, { weight: 600, halo: true });
            if (more) { draw.text("onset", left + ctx.measureText(words).width + 6, 13, red, { halo: true }); }
            taken.push(leftwards ? [left, at, 0, 20] : [at, at + 160, 0, 20]);
          }
        }
        for (const event of run.events.filter((e) => within(e.step))) { happened(draw, event, wide, taken); }
        for (const [step, code] of hero ? run.others.filter((other) => within(other[0])) : []) {
          draw.line(x(step), h - 14, x(step), h, red, 2);
          if (wide) { beside(draw, code, step, red, taken); }
        }
        for (const limit of told.limits.filter((one) => inScale(one.value))) {
          const at = y(limit.value), colour = limit.crossed && !run.calm ? colours.fault : colours.soft;
          draw.line(0, at, w, at, colour);
          if (limit.crossed) { draw.text(number(limit.value), -10, at + 4, colour, { size: 12, weight: 600, align: "right" }); }
          const name = limit.name || "limit", flat = new Array(Math.ceil(w / COLUMN)).fill([at, at]);
          if (wide || !limit.crossed) {
            label(ctx, draw, limit.crossed ? name : name + ", " + number(limit.value), 400, colour, flat, heights, taken);
          }
          heights.push(flat);
        }
        last(draw);
        rail(draw, red);
        if (scale.log) {
          const at = new Set(courses[0].below.map((step) => Math.round(x(step))));
          Array.from(at).slice(0, 300).forEach((left) => draw.dot(left, h, 2.5, colours.soft, true));
        }
        told.lines.forEach(function (line, i) {
          if (line.labelled) { label(ctx, draw, line.name, 600, colours[colourOf(line)], heights[i], heights, taken, beyond); }
        });
        draw.line(0, h, w, h, colours.rule);
        if (axis) { steps(draw); }
      });
    }

    /** An event: a resume runs through all figures; on the loss the others are marks on the lower edge with a word. */
    function happened(draw, event, wide, taken) {
      const at = x(event.step), h = box.height;
      if (event.kind === "resume") { draw.line(at, 0, at, h, colours.soft, 1, [2, 3]); }
      if (event.kind === "epoch" && (hero || axis)) { draw.line(at, h - 4, at, h, colours.soft); }
      if (!hero || event.kind === "epoch") { return; }
      if (event.kind === "lr") { draw.up(at, h - 1, colours.ink); }
      if (event.kind === "checkpoint") { draw.rect(at - 3, h - 7, at + 3, h - 1, colours.soft); }
      if (wide && run.events.filter((e) => e.kind === event.kind).length <= MOST_WORDS) {
        beside(draw, event.word, event.step, colours.soft, taken);
      }
    }

    /** A word beside a mark on the lower edge, on the line above where that place is taken. */
    function beside(draw, word, step, colour, taken) {
      const left = x(step) + 6, wide = word.length * 7;
      for (const base of [box.height - 12, box.height - 27, box.height - 42]) {
        const free = taken.every(([x0, x1, y0, y1]) => left + wide < x0 || left > x1 || base < y0 || base - 12 > y1);
        if (!free) { continue; }
        draw.text(word, left, base, colour, { size: 12, halo: true });
        taken.push([left, left + wide, base - 12, base + 3]);
        return;
      }
    }

    /** The highest and the lowest place of a curve in each column of the panel, in pixels; undefined where it has none. */
    function heightsOf(one) {
      const made = new Array(Math.ceil(box.width / COLUMN));
      for (const part of one.parts) {
        part.step.forEach(function (step, k) {
          const at = Math.floor(x(step) / COLUMN), before = k ? Math.floor(x(part.step[k - 1]) / COLUMN) : at;
          for (let i = Math.max(0, before); i <= Math.min(at, made.length - 1); i++) {
            const top = y(part.high[k]), bottom = y(part.low[k]);
            made[i] = made[i] ? [Math.min(made[i][0], top), Math.max(made[i][1], bottom)] : [top, bottom];
          }
        });
      }
      return made;
    }

    /** Write words where they cover least, near their own curve, and beyond a share of the width if the curve goes on there. */
    function label(ctx, draw, words, weight, colour, own, heights, taken, beyond) {
      ctx.font = weight + " 13px " + colours.sans;
      const wide = ctx.measureText(words).width + 6, tall = 15, columns = Math.ceil(wide / COLUMN);
      let best = null, least = Infinity;
      const start = beyond && own.some((place, i) => i * COLUMN > (beyond + 0.05) * box.width) ? beyond * box.width / COLUMN : 1;
      for (let first = Math.ceil(start); (first + columns) * COLUMN < box.width - 8; first += 2) {
        const left = first * COLUMN, mine = own.slice(first, first + columns).filter(Boolean);
        if (!mine.length) { continue; }
        for (let base = tall; base < box.height - 3; base += 5) {
          let cost = 6 * (1 - mine.length / columns) + 0.5 * left / box.width;
          const away = Math.min(...mine.map((place) => far(place, base)));
          for (const other of heights) {
            let hits = 0, nearer = false;
            for (let i = first; i < first + columns; i++) {
              if (!other[i]) { continue; }
              if (other[i][0] < base + 5 && other[i][1] > base - tall) { hits++; }
              nearer = nearer || (other !== own && far(other[i], base) < away);
            }
            cost += (hits ? 8 + 40 * hits / columns : 0) + (nearer ? 4 : 0);
          }
          for (const [x0, x1, y0, y1] of taken) {
            if (left < x1 && left + wide > x0 && base - tall < y1 && base + 5 > y0) { cost += 60; }
          }
          cost += 0.12 * Math.abs(away - 14);
          if (cost < least) { least = cost; best = [left, base]; }
        }
      }
      if (!best) { return; }
      draw.text(words, best[0], best[1], colour, { weight, halo: true });
      taken.push([best[0], best[0] + wide, best[1] - tall, best[1] + 5]);
    }

    const far = ([top, bottom], base) => Math.abs((top + bottom) / 2 - (base - 5));

    /** The last values in view, at the right edge, moved apart where they would touch. */
    function last(draw) {
      const found = [];
      told.lines.forEach(function (line, i) {
        const part = courses[i].parts[courses[i].parts.length - 1];
        if (!part || ["limit", "reproduced", "forecast"].includes(line.role)) { return; }
        let k = part.step.length - 1;
        while (k > 0 && part.step[k] > run.to) { k--; }
        if (x(part.step[k]) < 0.93 * box.width) { return; }
        const at = y(part.middle[k]);
        const value = part.middle[k], words = (bound && value > 0 ? "+" : "") + number(value);
        const left = Math.min(box.width, x(part.step[k])), colour = colours[colourOf(line)];
        found.push({ left, at, put: at, words, colour, bold: line.role === "observed" });
      });
      found.sort((a, b) => a.at - b.at);
      for (let round = 0; round < 20; round++) {
        for (let i = 1; i < found.length; i++) {
          const overlap = 15 - (found[i].put - found[i - 1].put);
          if (overlap > 0) { found[i - 1].put -= overlap / 2; found[i].put += overlap / 2; }
        }
      }
      for (const one of found) {
        draw.dot(one.left, one.at, 2.5, one.colour);
        draw.text(one.words, box.width + 10, one.put + 4, one.colour, { weight: one.bold ? 600 : 400 });
      }
    }

    /** The values that are not finite, as marks on a rail over the panel: a dot, or a bar from first to last. */
    function rail(draw, red) {
      const found = courses[0].marks;
      if (!found.length) { return; }
      const kinds = Array.from(new Set(found.map((m) => number(m[1])))).sort();
      draw.line(0, -14, box.width, -14, colours.rule);
      draw.text(kinds.join(", "), -10, -10, red, { size: 12, weight: 600, align: "right" });
      for (let i = 0, j; i < found.length; i = j) {
        j = i + 1;
        while (j < found.length && found[j][2] === found[j - 1][2] + 1 && number(found[j][1]) === number(found[i][1])) { j++; }
        const a = x(found[i][0]), b = x(found[j - 1][0]);
        if (b - a > 0.002 * box.width) { draw.line(a, -14, b, -14, red, 5); } else { draw.dot(a, -14, 3, red); }
      }
    }

    function steps(draw) {
      const span = run.to - run.from, stride = Math.ceil(Math.max(1, nice(span / 6)));
      const narrow = box.width < 500, base = box.height + 20;
      let left = 0;
      for (let k = Math.ceil(run.from / stride - 1e-9), i = 0; k <= run.to / stride + 1e-9; k++, i++) {
        if (narrow && i % 2) { continue; }
        const words = count(k * stride), at = x(k * stride);
        draw.text(words, at, base, colours.soft, { size: 12, align: "center" });
        if (!i) { left = at - 3.5 * words.length; }
      }
      draw.text(PLURAL[run.unit] || run.unit, Math.min(-10, left - 6), base, colours.soft, { size: 12, align: "right" });
    }

    // the cursor

    function read(u) {
      const left = u.cursor.left, shown = left >= 0 && left <= box.width;
      readout.hidden = !shown;
      marks.forEach((mark) => { mark.hidden = true; });
      if (!shown) { return; }
      const wanted = run.from + left / box.width * (run.to - run.from), words = [];
      let at = null;
      told.lines.forEach(function (line, i) {
        const k = nearest(line, wanted, 3 * (run.to - run.from) / box.width);
        rows[i].row.hidden = k < 0;
        if (k < 0) { return; }
        if (at === null) { at = line.step[k]; }
        rows[i].value.textContent = number(line.value[k], 3);
        words.push((line.name ? line.name + " " : "") + number(line.value[k], 3));
        const own = x(line.step[k]);
        marks[i].hidden = !Number.isFinite(line.value[k]) || !within(line.step[k]) || Math.abs(own - left) > 40;
        marks[i].style.transform = "translate(" + own + "px," + y(line.value[k]) + "px)";
      });
      readout.hidden = at === null;
      if (at === null) { return; }
      header.textContent = run.unit + " " + count(at);
      const wide = readout.offsetWidth, leftwards = left + wide > box.width;
      readout.classList.toggle("leftwards", leftwards);
      readout.style.transform = "translateX(" + (leftwards ? Math.max(0, left - wide) : left) + "px)";
      self.reading = header.textContent + ": " + words.join(", ");
    }

    /** Put the cursor at some pixels from the left, nowhere if below 0; the other figures follow if `all`. */
    function move(left, all) {
      if (plot) { plot.setCursor({ left, top: left < 0 ? -10 : box.height / 2 }, true, all); }
    }

    function select(u) {
      const { left, width } = u.select;
      u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
      if (width >= 6 && u.cursor.event && u.cursor.event.type === "mouseup" && u.over.contains(run.pressed)) {
        const step = (at) => run.from + at / box.width * (run.to - run.from);
        run.show(step(left), step(left + width));
      }
    }

    function csv() {
      const cell = (text) => '"' + (/^[-=+@\t\r]/.test(text) ? "'" : "") + text.replace(/"/g, '""') + '"';
      const made = ["series," + run.unit + ",value"];
      for (const line of told.lines) {
        const name = cell(line.label);
        for (let i = 0; i < line.step.length; i++) { made.push(name + "," + line.step[i] + "," + shortest(line.value[i])); }
      }
      return made.join("\r\n") + "\r\n";
    }

    self.step = (clientX) => {
      const size = layer.getBoundingClientRect();
      return run.from + (clientX - size.left) / size.width * (run.to - run.from);
    };
    self.width = () => box.width;
    self.cursor = () => plot && plot.cursor.left >= 0 ? plot.cursor.left : box.width / 2;
    return self;
  }

  // -- the figures of the page, which share the steps in view -------------------------------------------------------------

  /** Add the controls at once, so that nothing moves later; they work as soon as the data is there. */
  function controlsOf(first) {
    const side = first.previousElementSibling, tools = node("div", "tools"), buttons = {};
    tools.setAttribute("role", "group");
    tools.setAttribute("aria-label", "Steps in view");
    const pair = node("span"), keys = node("p", "keys"), said = node("p", "said-view");
    const add = function (name, words, label) {
      const button = buttons[name] = node("button", "", words);
      if (label) { button.setAttribute("aria-label", label); }
      (label ? pair : tools).append(button);
    };
    add("segment", "To the segment");
    add("all", "All steps");
    add("scale", "Linear scale");
    add("in", "+", "Zoom in");
    add("out", MINUS, "Zoom out");
    tools.append(pair);
    keys.append(
      node("span", "by-mouse", "Drag or Ctrl+wheel zooms, a double click ends it. "
        + "Keys on a figure: +\u00a0" + MINUS + "\u00a00 and arrows, with Shift to read."),
      node("span", "by-touch", "Two fingers zoom, one reads values."),
    );
    keys.id = "figure-keys";
    said.setAttribute("role", "status");
    side.append(tools, keys, said);
    return { buttons, said, remove() { [tools, keys, said].forEach((one) => one.remove()); } };
  }

  function runOf(told, columns, places, controls) {
    const { buttons, said } = controls, colours = palette(), whole = told.last - told.first;
    const view = { from: told.first, to: told.last, zoomed: false };
    const run = Object.assign({}, told, view, { pressed: null, help: "figure-keys", show });
    const figures = told.figures.filter((one) => places.has(one.key)).map(function (one) {
      const lines = one.lines.map((line) => lineOf(line, columns, whole));
      return figureOf(Object.assign({}, one, { lines }), run, places.get(one.key), colours);
    });
    let waiting = 0;

    function show(from, to) {
      const span = Math.min(whole, Math.max(to - from, Math.min(whole, 4)));
      const middle = (from + to) / 2;
      run.from = Math.min(told.last - span, Math.max(told.first, middle - span / 2));
      run.to = run.from + span;
      run.zoomed = span < 0.999 * whole;
      if (!run.zoomed) { run.from = told.first; run.to = told.last; }
      waiting = waiting || requestAnimationFrame(function () {
        waiting = 0;
        build();
        figures.forEach((one) => one.refresh());
        say(run.zoomed ? units + " " + count(run.from) + " to " + count(run.to) + outlined() : "all " + units);
      });
    }

    /** What a page too small for a long log leaves out of the curve in view. */
    function outlined() {
      const { every, whole: held } = figures[0].told.lines[0];
      const all = every === 1 || (held && run.from >= held[0] && run.to <= held[1]);
      const but = held ? "outside " + units + " " + count(held[0]) + " to " + count(held[1]) + " " : "";
      return all ? "" : "; " + but + "the first, lowest, highest and last of " + count(every) + " values each";
    }

    const units = PLURAL[run.unit] || run.unit;
    const build = () => figures.forEach((one) => one.build());
    const say = (words) => { said.textContent = words; };
    const all = () => show(told.first, told.last);
    const zoom = (factor, about) => show(about - (about - run.from) * factor, about + (run.to - about) * factor);
    const middle = () => (run.from + run.to) / 2;
    const pan = (share) => show(run.from + share * (run.to - run.from), run.to + share * (run.to - run.from));

    function toggle(one) {
      one.log = !one.log;
      build();
      one.refresh();
      const below = one.told.lines[0].not_positive, values = count(below) + (below === 1 ? " value is" : " values are");
      const zeros = one.log && below ? ": " + values + " zero or below, circles on the lower edge" : "";
      say((one.log ? "log scale" : "linear scale") + zeros);
      buttons.scale.textContent = one.log ? "Linear scale" : "Log scale";
    }

    function keyed(one, event) {
      if (event.ctrlKey || event.metaKey || event.altKey) { return; }
      const aside = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (event.key === "+" || event.key === "=") { zoom(0.5, middle()); }
      else if (event.key === "-" || event.key === "_") { zoom(2, middle()); }
      else if (event.key === "0") { all(); }
      else if (aside && run.zoomed && !event.shiftKey) { pan(0.2 * aside); }
      else if (aside) {
        one.move(Math.min(one.width(), Math.max(0, one.cursor() + aside * one.width() / 100)), true);
        say(one.reading);
      } else { return; }
      event.preventDefault();
    }

    function touched(one) {
      let held = null;
      const at = (touch) => one.step(touch.clientX);
      one.layer.addEventListener("touchstart", function (event) {
        held = event.touches.length === 2 ? [at(event.touches[0]), at(event.touches[1])] : null;
      }, { passive: true });
      one.layer.addEventListener("touchmove", function (event) {
        if (!event.cancelable) { return; }
        event.preventDefault();
        const size = one.layer.getBoundingClientRect();
        const [p, q] = Array.from(event.touches, (touch) => (touch.clientX - size.left) / size.width);
        if (held && q !== undefined && Math.abs(q - p) > 0.02 && (held[1] - held[0]) / (q - p) > 0) {
          const span = (held[1] - held[0]) / (q - p);
          show(held[0] - p * span, held[0] + (1 - p) * span);
        } else if (!held) {
          one.move(Math.min(1, Math.max(0, p)) * one.width(), true);
        }
      }, { passive: false });
    }

    for (const one of figures) {
      const layer = one.layer;
      ["focus", "touchstart"].forEach((name) => layer.addEventListener(name, build, { passive: true }));
      layer.addEventListener("pointerenter", function (event) {
        build();
        queueMicrotask(() => one.move((one.step(event.clientX) - run.from) / (run.to - run.from) * one.width(), true));
      });
      layer.addEventListener("keydown", (event) => keyed(one, event));
      layer.addEventListener("dblclick", all);
      layer.addEventListener("mousedown", function (event) { run.pressed = event.target; }, true);
      layer.addEventListener("wheel", function (event) {
        if (!event.ctrlKey && !event.metaKey) { return; }
        event.preventDefault();
        zoom(Math.exp(Math.max(-1, Math.min(1, event.deltaY * 0.004))), one.step(event.clientX));
      }, { passive: false });
      touched(one);
      new ResizeObserver(() => one.resize()).observe(one.place.querySelector("svg"));
      one.place.previousElementSibling.prepend(csvButton(one));
    }

    const loss = figures.find((one) => one.key === "loss");
    const positive = loss && loss.told.lines[0].value.some((v) => v > 0);
    buttons.scale.hidden = !positive || loss.told.scale.flat !== null;
    buttons.scale.textContent = loss && loss.log ? "Linear scale" : "Log scale";
    buttons.scale.addEventListener("click", () => toggle(loss));
    buttons.segment.hidden = !told.segment;
    buttons.segment.addEventListener("click", function () {
      const [start, stop] = told.segment, pad = 0.05 * (stop - start);
      show(Math.max(told.first, start - pad), Math.min(told.last, stop + pad));
    });
    buttons.in.addEventListener("click", () => zoom(0.5, middle()));
    buttons.out.addEventListener("click", () => zoom(2, middle()));
    buttons.all.addEventListener("click", all);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", function () {
      Object.assign(colours, palette());
      figures.forEach((one) => one.redraw());
    });
  }

  /** A button that saves what the page holds of a figure. */
  function csvButton(one) {
    const button = node("button", "csv", "CSV"), lines = one.told.lines;
    const held = lines.reduce((sum, line) => sum + line.step.length, 0), all = lines.reduce((sum, line) => sum + line.n, 0);
    button.setAttribute("aria-label", "Download the numbers of " + one.told.name + " as CSV");
    button.title = held < all ? count(held) + " of " + count(all) + " values, which draw the same curve" : count(all) + " values";
    button.addEventListener("click", function () {
      const link = node("a"), address = URL.createObjectURL(new Blob([one.csv()], { type: "text/csv" }));
      link.href = address;
      link.download = one.key + ".csv";
      link.click();
      setTimeout(() => URL.revokeObjectURL(address), 1000);
    });
    return button;
  }

  const source = document.getElementById("figures");
  const told = source ? JSON.parse(source.textContent) : {};
  if (!told.figures || !(told.last > told.first) || typeof DecompressionStream === "undefined") { return; }
  const places = new Map(Array.from(document.querySelectorAll("[data-figure]"), (f) => [f.getAttribute("data-figure"), f]));
  const controls = controlsOf(places.get(told.figures[0].key));
  inflated(told.data).then(function (bytes) {
    runOf(told, columnsOf(told.columns, bytes), places, controls);
  }, function () {
    controls.remove();  // the drawings stay as they are
  });
})();
