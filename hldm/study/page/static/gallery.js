// Pictures: grids of samples from the same noise, and the latents of each run with a word on each point.

const MANY = { grids: 36, disks: 8 };
const galleryState = { grids: MANY.grids, disks: MANY.disks };

function more(total, shown, key, root, draw) {
  if (total <= shown) return null;
  return h('p', {}, h('button', { type: 'button', class: 'action', onclick: () => { galleryState[key] += MANY[key] * 2; draw(root); } }, `Show more: ${shown} of ${total} are drawn`));
}

function figureWords(run) {
  const figure = data.figures.find((one) => metricOf(run, one.name) !== null);
  return figure ? `${headingOf(figure)} ${number(scaled(metricOf(run, figure.name), figure.scale), 3)}` : run.state;
}

function drawGrids(root) {
  const { images, of, left } = data.grids;
  if (!of.length) return root.closest('section').remove();
  const found = of.map(([run, image]) => [data.runs[run], images[image]]).filter(([run]) => isShown(run)).sort(([a], [b]) => a.seed - b.seed || a.index - b.index);
  const some = found.slice(0, galleryState.grids);
  return clear(root,
    h('p', { class: 'soft' }, 'Runs of one seed start from the same noise, so the same place shows what their models make of it.' + (left ? ` ${left} more runs have their pictures in <run>/samples.png.` : '')),
    h('div', { class: 'tiles' }, some.map(([run, uri]) => h('figure', {},
      h('img', { src: uri, alt: `samples of ${runTitle(run)}`, decoding: 'async' }),
      h('figcaption', {}, runTitle(run), h('small', {}, figureWords(run)))))),
    more(found.length, some.length, 'grids', root, drawGrids));
}

function drawDisks(root) {
  const all = data.disks.of;
  if (!all.length) return root.closest('section').remove();
  const found = all.filter((one) => isShown(data.runs[one.run])).sort((a, b) => data.runs[a.run].seed - data.runs[b.run].seed || a.run - b.run);
  const some = found.slice(0, galleryState.disks);
  // one scale for all that are not in the disk, whose scale is its boundary
  const reach = Math.max(...found.filter((one) => one.kind !== 'disk').map((one) => Math.max(...one.points.map(Math.abs))), 1e-9);
  const sets = unique(some.map((one) => one.names));
  return clear(root,
    h('p', { class: 'soft' }, 'A point is a test image, at the geodesic distance from the origin that its model gives it; numbers on circles are that distance, and the boundary of the Poincaré disk is infinitely far. Others are on one scale. Pointer or arrow keys tell a point.'),
    sets.map((set) => classLegend(data.disks.names[set], some.filter((one) => one.names === set))),
    h('div', { class: 'tiles' }, some.map((one) => disk(one, reach))),
    more(found.length, some.length, 'disks', root, drawDisks));
}

const classStyle = (label) => ({ colour: `var(--c${label % COLOURS})`, marker: MARKERS[(label % COLOURS + 3 * Math.floor(label / COLOURS)) % MARKERS.length], dash: '' });
const className = (names, label) => names[label] ?? `class ${label}`;

function classLegend(names, drawings) {
  const labels = unique(drawings.flatMap((one) => one.labels)).sort((a, b) => a - b);
  if (labels.length > 40) return h('p', { class: 'soft' }, `${labels.length} classes.`);
  return h('p', {}, labels.map((label) => h('span', { style: 'display:inline-flex;align-items:center;gap:.2rem;margin-right:.8rem' },
    s('svg', { viewBox: '0 0 14 14', style: 'width:14px', 'aria-hidden': 'true' }, mark(classStyle(label), 7, 7)), className(names, label))));
}

const SIDE = 320;
const HALF = SIDE / 2;
const RADIUS = HALF - 12;

function disk(one, reach) {
  const run = data.runs[one.run], names = data.disks.names[one.names];
  const isDisk = one.kind === 'disk' && one.curvature > 0, root = Math.sqrt(one.curvature || 1);
  const told = [], marks = [];
  one.labels.forEach((label, i) => {
    const [x, y] = [one.points[2 * i], one.points[2 * i + 1]], r = Math.hypot(x, y);
    // normal coordinates → the disk of radius 1
    const factor = isDisk ? (r ? Math.tanh(root * r / 2) / r : 0) : 1 / reach;
    const [px, py] = [HALF + RADIUS * x * factor, HALF - RADIUS * y * factor];
    marks.push(mark(classStyle(label), px, py, { size: 2.4 }));
    told.push({ x: px, y: py, text: `${className(names, label)}\n${one.kind === 'components' ? `components ${number(x, 3)}, ${number(y, 3)}` : `distance from the origin ${number(r, 3)}`}` });
  });
  const far = (distance) => RADIUS * Math.tanh(root * distance / 2);
  const distances = isDisk ? [1, 2, 4, Infinity] : [];
  const rings = distances.slice(0, -1).map((distance) => s('circle', { class: 'grid', cx: HALF, cy: HALF, r: far(distance) }));
  const said = distances.map((distance) => s('text', { class: 'said', x: HALF, y: HALF - far(distance) + 4, 'text-anchor': 'middle' }, distance === Infinity ? '∞' : distance));
  const frame = isDisk ? s('circle', { class: 'axis', cx: HALF, cy: HALF, r: RADIUS }) : s('rect', { class: 'grid', x: 12, y: 12, width: 2 * RADIUS, height: 2 * RADIUS });
  const ring = s('circle', { r: 6, style: 'fill:none;stroke:var(--ink);stroke-width:1.5;display:none' });
  const svg = s('svg', { viewBox: `0 0 ${SIDE} ${SIDE}`, role: 'img', tabindex: 0, 'aria-label': `latents of ${runTitle(run)}. Arrow keys go from point to point.` }, frame, rings, marks, said, ring);
  tellPoints(svg, told, ring);
  const explained = one.explained ? `first two components, ${one.explained.map((share) => `${Math.round(share * 100)} %`).join(' and ')} of the variance` : { disk: 'Poincaré disk', plane: 'plane', components: 'first two components' }[one.kind];
  return h('figure', {}, svg, h('figcaption', {}, runTitle(run), h('small', {}, [explained, one.rms !== null && one.rms !== undefined && `√c · rms = ${number(one.rms, 3)}`].filter(Boolean).join('; '))));
}
