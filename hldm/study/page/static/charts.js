// Charts as SVG: axes, lines with intervals, markers; the nearest point tells its numbers to pointer and keyboard.

const MARGIN = { left: 58, right: 14, top: 12, bottom: 44 };

function ticks(low, high, count) {
  const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= raw) * power;
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i += 1) found.push(i * step);
  return found;
}

// Number → pixel. A range without extent is widened, so that a single value stands in the middle.
function scale(values, from, to, isLog = false) {
  let low = Math.min(...values), high = Math.max(...values);
  if (isLog) [low, high] = [Math.log10(low), Math.log10(high)];
  const room = high > low ? (high - low) * 0.05 : Math.abs(high) * 0.1 || 1;
  low -= room; high += room;
  const at = (value) => from + ((isLog ? Math.log10(value) : value) - low) / (high - low) * (to - from);
  const marks = isLog && high - low > 1
    ? ticks(Math.ceil(low), Math.floor(high), 6).filter(Number.isInteger).map((power) => 10 ** power)
    : ticks(isLog ? 10 ** low : low, isLog ? 10 ** high : high, 6).filter((mark) => !isLog || mark > 0);
  return { at, marks };
}

// Both ends of what is drawn, as hldm/drawing.py has them: the values decide, intervals have half of their range on
// either side, and nothing lies outside of what the measure can be (bounds, null for no end).
function extent(values, ends, [least, most]) {
  const low = Math.min(...values), high = Math.max(...values), room = (high - low) / 2 || Infinity;
  const bottom = Math.max(Math.min(low, ...ends), low - room, Math.min(least ?? -Infinity, low));
  const top = Math.min(Math.max(high, ...ends), high + room, Math.max(most ?? Infinity, high));
  return bottom === top && least !== null && most !== null ? [least, most] : [bottom, top];
}

function marker(kind, x, y, size = 4.5) {
  const shapes = {
    circle: `M${x - size},${y}a${size},${size} 0 1,0 ${2 * size},0a${size},${size} 0 1,0 ${-2 * size},0Z`,
    square: `M${x - size},${y - size}h${2 * size}v${2 * size}h${-2 * size}Z`,
    triangle: `M${x},${y - size * 1.2}L${x + size * 1.2},${y + size}H${x - size * 1.2}Z`,
    diamond: `M${x},${y - size * 1.4}L${x + size * 1.2},${y}L${x},${y + size * 1.4}L${x - size * 1.2},${y}Z`,
    down: `M${x},${y + size * 1.2}L${x + size * 1.2},${y - size}H${x - size * 1.2}Z`,
    cross: `M${x - size},${y - size}l${2 * size},${2 * size}m0,${-2 * size}l${-2 * size},${2 * size}`,
    plus: `M${x - size * 1.2},${y}h${size * 2.4}M${x},${y - size * 1.2}v${size * 2.4}`,
  };
  shapes.ring = shapes.circle;
  return { d: shapes[kind], isOpen: kind === 'cross' || kind === 'plus' || kind === 'ring' };
}

function mark(style, x, y, { hollow = false, size } = {}) {
  const { d, isOpen } = marker(style.marker, x, y, size);
  const open = isOpen || hollow;
  return s('path', { d, style: `fill:${open ? 'none' : style.colour};stroke:${style.colour};stroke-width:${open ? 2 : 1}` });
}

function legend(series, root) {
  const toggle = (name, button) => {
    const on = button.getAttribute('aria-pressed') !== 'true';
    for (const other of button.closest('ul').querySelectorAll('button')) other.setAttribute('aria-pressed', 'false');
    button.setAttribute('aria-pressed', String(on));
    for (const group of root.querySelectorAll('g[data-name]')) group.classList.toggle('faded', on && group.dataset.name !== name);
  };
  const item = (one) => {
    const line = one.hasLine !== false && s('path', { d: 'M0,7H30', style: `stroke:${one.style.colour};stroke-width:2;fill:none;stroke-dasharray:${one.style.dash || 'none'}` });
    const button = h('button', { type: 'button', 'aria-pressed': 'false', title: 'show this one alone', onclick: () => toggle(one.name, button) },
      s('svg', { viewBox: '0 0 30 14', 'aria-hidden': 'true' }, line, mark(one.style, 15, 7, { size: 4 })), one.name);
    return h('li', {}, button);
  };
  // runs of one cell have one line in the legend
  return h('ul', { class: 'legend' }, series.filter((one, i) => series.findIndex((other) => other.name === one.name) === i).map(item));
}

// The tooltip of a drawing: nearest point to the pointer, arrow keys from point to point.
function tellPoints(svg, points, ring) {
  let at = -1;
  const tip = document.getElementById('tip');
  const show = (i) => {
    at = i;
    const point = points[i];
    ring.setAttribute('cx', point.x); ring.setAttribute('cy', point.y); ring.style.display = '';
    tip.textContent = point.text;
    const box = svg.getBoundingClientRect(), zoom = box.width / svg.viewBox.baseVal.width;
    const x = box.left + point.x * zoom, y = box.top + point.y * zoom;
    tip.style.left = `${Math.max(4, Math.min(x + 12, innerWidth - tip.offsetWidth - 6))}px`;
    tip.style.top = `${y + 14 + tip.offsetHeight < innerHeight ? y + 14 : y - tip.offsetHeight - 10}px`;
  };
  const hide = () => { at = -1; tip.textContent = ''; ring.style.display = 'none'; };
  const nearest = (event) => {
    const box = svg.getBoundingClientRect(), zoom = box.width / svg.viewBox.baseVal.width;
    const x = (event.clientX - box.left) / zoom, y = (event.clientY - box.top) / zoom;
    let best = -1, least = 40 ** 2;
    points.forEach((point, i) => {
      const apart = (point.x - x) ** 2 + (point.y - y) ** 2;
      if (apart < least) { best = i; least = apart; }
    });
    if (best < 0) hide(); else show(best);
  };
  const keys = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
  svg.addEventListener('pointermove', nearest);
  svg.addEventListener('pointerdown', nearest);
  svg.addEventListener('pointerleave', hide);
  svg.addEventListener('blur', hide);
  svg.addEventListener('keydown', (event) => {
    if (event.key === 'Escape') hide();
    if (!(event.key in keys) || !points.length) return;
    event.preventDefault();
    show((at + keys[event.key] + points.length) % points.length);
  });
}

// Of a long name its start; the whole of it stands in the tooltip.
const shortened = (name) => (name.length > 24 ? `${name.slice(0, 23)}…` : name);

const ANY = [null, null];

// series: [{name, style, hasLine, points: [{x, y, low, high, hollow, text}]}]; x may be words, in the order they come.
// bounds, xBounds: what y and x can be.
function chart({ label, xLabel, yLabel, series, isLog = false, height = 320, withLegend = true, lines = [], bounds = ANY, xBounds = ANY }) {
  const all = series.flatMap((one) => one.points).filter((point) => !isLog || point.y > 0);
  if (!all.length) return h('p', { class: 'soft' }, 'Nothing of this is left by the filters.');
  const width = Math.max(300, Math.min(900, chart.width || 620));
  const ends = all.flatMap((point) => [point.low, point.high]).filter((y) => y !== undefined && y !== null && (!isLog || y > 0));
  const range = extent([...all.map((point) => point.y), ...lines.map((line) => line.y)], ends, bounds);
  const isCut = ends.some((y) => y < range[0] || y > range[1]);
  const named = all.some((point) => typeof point.x === 'string') ? unique(all.map((point) => String(point.x))) : null;
  const xOf = (point) => (named ? named.indexOf(String(point.x)) : point.x);
  // words are written aslant, with room for the longest
  const slant = named ? 3.6 * Math.max(...named.map((name) => shortened(name).length)) : 0;
  height += slant;
  const bottom = height - MARGIN.bottom - slant;
  const x = scale(extent(all.map(xOf), [], xBounds), MARGIN.left, width - MARGIN.right);
  const y = scale(range, bottom, MARGIN.top, isLog);
  const xMarks = named ? named.map((_, i) => i) : x.marks;
  const frame = [
    y.marks.map((value) => [
      s('path', { class: 'grid', d: `M${MARGIN.left},${y.at(value)}H${width - MARGIN.right}` }),
      s('text', { x: MARGIN.left - 6, y: y.at(value) + 4, 'text-anchor': 'end' }, number(value, 3))]),
    xMarks.map((value) => (named
      ? s('text', { transform: `translate(${x.at(value) + 4},${bottom + 14}) rotate(-32)`, 'text-anchor': 'end' }, shortened(named[value]))
      : s('text', { x: x.at(value), y: bottom + 17, 'text-anchor': 'middle' }, number(value, 3)))),
    s('path', { class: 'axis', d: `M${MARGIN.left},${MARGIN.top}V${bottom}H${width - MARGIN.right}` }),
    s('text', { x: (MARGIN.left + width - MARGIN.right) / 2, y: height - 8, 'text-anchor': 'middle' }, xLabel),
    s('text', { transform: `translate(13,${bottom / 2 + 6}) rotate(-90)`, 'text-anchor': 'middle' }, yLabel),
    lines.map((line) => [
      s('path', { d: `M${MARGIN.left},${y.at(line.y)}H${width - MARGIN.right}`, style: 'stroke:var(--soft);stroke-dasharray:3 3' }),
      s('text', { x: width - MARGIN.right - 4, y: y.at(line.y) - 4, 'text-anchor': 'end' }, line.text)]),
  ];
  const told = [];
  // beside each other where words stand below, so that no interval hides another
  const apart = named ? Math.min(8, (width - MARGIN.left) / named.length / (series.length + 1)) : 0;
  const drawn = series.map((one, place) => {
    const shift = apart * (place - (series.length - 1) / 2);
    const points = one.points.filter((point) => !isLog || point.y > 0);
    const d = points.map((point, i) => `${i ? 'L' : 'M'}${(x.at(xOf(point)) + shift).toFixed(1)},${y.at(point.y).toFixed(1)}`).join('');
    const path = one.hasLine !== false && s('path', { d, style: `fill:none;stroke:${one.style.colour};stroke-width:1.8;stroke-dasharray:${one.style.dash || 'none'}` });
    const marks = points.map((point, i) => {
      const [px, py] = [x.at(xOf(point)) + shift, y.at(point.y)];
      told.push({ x: px, y: py, text: `${one.name}\n${point.text}` });
      const bar = point.low !== undefined && point.low !== null && point.high > point.low
        && s('path', { d: `M${px},${y.at(Math.max(point.low, range[0]))}V${y.at(Math.min(point.high, range[1]))}`, style: `stroke:${one.style.colour};stroke-width:1.2;opacity:.7` });
      const isMarked = !one.fewMarks || i % Math.ceil(points.length / 8) === 0;
      return [bar, isMarked && mark(one.style, px, py, { hollow: point.hollow })];
    });
    return s('g', { 'data-name': one.name }, path, marks);
  });
  const ring = s('circle', { r: 8, style: 'fill:none;stroke:var(--ink);stroke-width:1.5;display:none' });
  const svg = s('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img', tabindex: 0, 'aria-label': `${label}. Arrow keys go from point to point.` }, frame, drawn, ring);
  tellPoints(svg, told, ring);
  return h('div', { class: 'chart' }, svg, withLegend && series.length > 1 && legend(series, svg),
    isCut && h('p', { class: 'soft' }, 'Intervals are cut where they are much wider than what was measured lies apart. A point tells its own.'));
}
