// The matrix: geometry and what else differs down, curvature across, one figure at a time.

const matrixState = { figure: '', shows: 'mean' };

function drawMatrix(root) {
  const figures = data.figures.filter((one) => data.cells.some((cell) => cell.means[one.name]));
  if (!figures.length) return clear(root, h('p', { class: 'soft' }, 'No finished run has figures yet.'));
  const first = figures.find((one) => one.name === 'fid_best') || figures[0];
  const figure = figureNamed(matrixState.figure) || first;
  const again = (key) => (value) => { matrixState[key] = value; keepingFocus(root, drawMatrix); };
  const cells = shownCells();
  const titleOf = (cell) => [cell.geometry, cell.more].filter(Boolean).join(' ');
  const rows = unique(cells.map(titleOf)), across = unique(cells.map((cell) => cell.curvature)).sort((a, b) => (a === 'flat' ? -1 : b === 'flat' ? 1 : order(a, b)));
  const extent = extentOf(cells, figure);
  const one = (row, curvature) => {
    const found = cells.filter((cell) => titleOf(cell) === row && cell.curvature === curvature);
    if (!found.length) return h('td', { class: 'soft' }, '');
    return h('td', { style: tint(found[0], figure, extent) }, found.map((cell) => matrixCell(cell, figure)));
  };
  const real = cells.map((cell) => cell.real[figure.metric]).find((value) => value !== undefined);
  const isPlain = figure.heading.indexOf('(') < 0;
  return clear(root,
    h('div', { class: 'controls' },
      choice('Figure', figures.map((figure_) => [figure_.name, headingOf(figure_)]), figure.name, again('figure')),
      choice('Show', [['mean', 'mean ± 95 % interval'], ['difference', 'difference from the baseline']], matrixState.shows, again('shows'))),
    h('div', { class: 'scroll' }, h('table', { class: 'matrix' },
      h('caption', {}, h('span', {}, `${headingOf(figure)}. Darker: larger. ${real !== undefined && isPlain ? `Real images score ${number(real, 3)}.` : ''}`)),
      h('thead', {}, h('tr', {}, h('th', { scope: 'col' }, 'geometry'), across.map((curvature) => h('th', { scope: 'col' }, curvature === 'flat' ? 'flat' : `c = ${curvature}`)))),
      h('tbody', {}, rows.map((row) => h('tr', {}, h('th', { scope: 'row' }, row), across.map((curvature) => one(row, curvature))))))));
}

// Least and largest mean, apart by four margins at least: what chance moves is not painted as a difference.
function extentOf(cells, figure) {
  const means = cells.map((cell) => cell.means[figure.name]).filter(Boolean);
  const margins = means.map(([, margin]) => margin || 0).sort((a, b) => a - b);
  const low = Math.min(...means.map(([mean]) => mean)), high = Math.max(...means.map(([mean]) => mean));
  return [low, Math.max(high - low, 4 * (margins[Math.floor(margins.length / 2)] || 0))];
}

function tint(cell, figure, [low, width]) {
  const mean = cell.means[figure.name];
  if (!mean || !width) return null;
  return `background:rgba(var(--shade),${(0.05 + 0.3 * (mean[0] - low) / width).toFixed(2)})`;
}

function matrixCell(cell, figure) {
  const mean = cell.means[figure.name], apart = cell.differences[figure.name];
  if (!mean) return h('div', {}, '–', h('small', {}, stateWords(cell)));
  const says = apart ? differenceWords(apart) : h('small', {}, cell.baseline ? 'not compared' : 'baseline');
  const text = matrixState.shows === 'mean' || !cell.baseline ? mean[3] : (apart ? apart[4] : '–');
  return h('div', {}, text, says, h('small', {}, `${mean[2]} seed${mean[2] > 1 ? 's' : ''}`));
}

// [difference, margin, is shown, way, words, adjusted p]
function differenceWords([, , isShownThere, way, , adjusted]) {
  if (!isShownThere) return h('small', {}, adjusted === null ? 'one seed shows nothing' : 'no difference shown');
  const sign = { better: '✔ ', worse: '✘ ', higher: '↑ ', lower: '↓ ' }[way];
  return h('div', { class: way }, `${sign}${way}`);
}

function stateWords(cell) {
  return Object.entries(cell.unfinished).map(([seed, state]) => `seed ${seed}: ${state}`).join(', ') || 'not measured';
}
