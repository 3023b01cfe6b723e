// The page: its head, its filters, and its sections, which are drawn again when a filter changes.

function drawVerdict(root) {
  const shown = shownCells().filter((cell) => cell.overview);
  clear(root,
    shown.length > 0 ? h('ul', { class: 'short' }, shown.slice(0, MOST_CELLS).map((cell) => h('li', {}, cell.overview))) : h('p', {}, 'No two cells could be compared in these runs.'),
    few(shown, MOST_CELLS, 'cells'),
    shown.some((cell) => cell.verdict.length) && h('details', {}, h('summary', {}, 'Every difference, with what the data exclude'),
      shown.slice(0, MOST_CELLS).map((cell) => [h('h3', {}, `${cell.name} against ${cell.baseline}`), h('ul', { class: 'short' }, cell.verdict.map((line) => h('li', {}, line)))])),
    data.footnotes.map((line) => h('p', { class: 'soft' }, line)));
}

function drawChecks(root) {
  const kinds = new Map([[true, ['yes', '✓', 'holds']], [false, ['no', '✗', 'does not hold']], [null, ['unknown', '?', 'not known']]]);
  clear(root,
    data.checks.length ? h('ul', { class: 'checks' }, data.checks.map(({ what, holds, facts }) => {
      const [kind, sign, meaning] = kinds.get(holds);
      return h('li', { class: kind }, h('span', { class: 'mark', role: 'img', 'aria-label': meaning }, sign), h('span', {}, what), h('span', { class: 'facts' }, facts));
    })) : h('p', {}, 'There is one cell, which is compared with nothing.'),
    data.exclusions.length > 0 && h('details', { open: data.exclusions.length <= 5 }, h('summary', {}, `${data.exclusions.length} exclusions: figures that were not measured alike are not compared`), h('ul', { class: 'short' }, data.exclusions.map((line) => h('li', {}, line)))),
    data.cautions.map((line) => h('p', {}, h('strong', {}, 'Caution. '), line)));
}

function drawUnfinished(root) {
  const runs = data.runs.filter((run) => run.state !== 'finished' && isShown(run));
  if (!data.damaged.length && data.runs.every((run) => run.state === 'finished')) return root.closest('section').remove();
  return clear(root,
    h('div', { class: 'scroll' }, h('table', {}, h('thead', {}, h('tr', {}, ['run', 'state', 'why'].map((heading) => h('th', { scope: 'col' }, heading)))),
      h('tbody', {}, runs.map((run) => h('tr', { class: run.state }, h('td', { class: 'name' }, run.name), h('td', {}, run.state), h('td', { class: 'name' }, run.error || '–')))))),
    data.damaged.map((line) => h('p', {}, line)));
}

function drawSettings(root) {
  const values = data.settings.map((name, i) => [name, unique(data.runs.map((run) => run.own[i])).map((value) => value ?? 'not set').sort(order)]);
  const pairs = (found) => h('table', {}, h('tbody', {}, found.map(([key, value]) => h('tr', {}, h('th', { scope: 'row' }, key), h('td', { class: 'name' }, value)))));
  clear(root,
    values.length ? h('div', { class: 'scroll' }, pairs(values.map(([name, found]) => [name, found.length > 12 ? `${found.slice(0, 12).join(', ')} and ${found.length - 12} more` : found.join(', ')]))) : h('p', {}, 'Nothing but the seed.'),
    h('details', {}, h('summary', {}, `${Object.keys(data.common).length} settings that all runs share`), pairs(Object.entries(data.common))));
}

function drawProvenance(root) {
  const value = ([text, runs], i, all) => h('div', {}, text, all.length > 1 && h('span', { class: 'soft' }, ` (${runs} run${runs > 1 ? 's' : ''})`));
  clear(root, h('div', { class: 'scroll' }, h('table', {}, h('tbody', {}, data.provenance.map(([name, values]) => h('tr', {}, h('th', { scope: 'row' }, name), h('td', { class: 'name' }, values.map(value))))))));
}

function drawDownloads(root) {
  const runs = () => csv([['run', 'cell', 'seed', 'state', 'error', 'minutes', ...data.settings.map((name) => `config.${name}`), ...data.metrics],
    ...data.runs.map((run) => [run.name, data.cells[run.cell]?.name, run.seed, run.state, run.error, run.minutes, ...run.own, ...(run.values.length ? run.values : data.metrics.map(() => null))])]);
  const cells = () => csv([['cell', 'figure', 'seeds', 'mean', 'margin', 'baseline', 'difference', 'difference_margin', 'p_holm', 'shown'],
    ...data.cells.flatMap((cell) => data.figures.filter((figure) => cell.means[figure.name]).map((figure) => {
      const [mean, margin, n] = cell.means[figure.name], apart = cell.differences[figure.name] || [];
      return [cell.name, headingOf(figure), n, mean, margin, cell.baseline, apart[0], apart[1], apart[5], apart.length ? (apart[2] ? 'yes' : 'no') : null];
    }))]);
  const button = (text, name, make, type) => h('button', { type: 'button', class: 'action', onclick: () => download(name, make(), type) }, text);
  clear(root, h('p', {}, 'What this page shows, with six digits. The files beside it, summary.csv, cells.csv and comparison.json, have all digits.'),
    h('div', { class: 'controls' }, button('Runs as CSV', `${data.study}-runs.csv`, runs, 'text/csv'), button('Cells as CSV', `${data.study}-cells.csv`, cells, 'text/csv'),
      button('Everything as JSON', `${data.study}.json`, () => document.getElementById('data').textContent, 'application/json')));
}

const SECTIONS = [
  ['verdict', 'Verdict', drawVerdict], ['fairness', 'How fairly', drawChecks], ['unfinished', 'Not finished', drawUnfinished],
  ['matrix', 'Geometry × curvature', drawMatrix], ['cells', 'Cells', drawCells],
  ['curves', 'Along guidance', drawCurves], ['precision', 'Precision and recall', drawPrecision],
  ['hierarchy', 'Hierarchy', drawHierarchy], ['training', 'Training', drawTraining],
  ['samples', 'Samples', drawGrids], ['latents', 'Latents', drawDisks], ['runs', 'Runs', drawRuns],
  ['settings', 'What differs', drawSettings], ['provenance', 'Provenance', drawProvenance], ['download', 'Download', drawDownloads],
];
const IN_PANELS = ['curves', 'precision', 'hierarchy', 'training'];

function drawAll() {
  const panel = document.querySelector('.panels > section');
  chart.width = panel ? panel.clientWidth - 32 : 620;
  for (const [id, , draw] of SECTIONS) {
    const root = document.querySelector(`#${id} > .body`);
    if (root) draw(root);
  }
  document.getElementById('count').textContent = `${shownRuns().length} of ${data.runs.length} runs`;
}

function filterBar() {
  const set = (key) => (value) => { filters[key] = value; drawAll(); };
  const text = h('input', { type: 'search', id: 'filter', placeholder: 'name, setting, state', oninput: () => { clearTimeout(text.wait); text.wait = setTimeout(() => set('text')(text.value.trim()), 120); } });
  const selects = Object.entries(filterValues).filter(([, values]) => values.length > 1)
    .map(([key, values]) => choice(key, [['', 'all'], ...values.map((value) => [value, value])], '', set(key)));
  const reset = () => { for (const key of Object.keys(filters)) filters[key] = ''; text.value = ''; for (const label of selects) label.querySelector('select').value = ''; drawAll(); };
  return h('div', { class: 'filters' }, h('label', { title: 'The key / goes here' }, 'Filter ', text), selects,
    h('button', { type: 'button', onclick: reset }, 'Reset'), h('span', { id: 'count', class: 'soft', role: 'status' }));
}

function build() {
  const finished = data.runs.filter((run) => run.state === 'finished').length;
  const seeds = unique(data.runs.map((run) => run.seed)).length;
  const sections = SECTIONS.map(([id, title]) => [id, h('section', { id, 'aria-labelledby': `${id}-title` }, h('h2', { id: `${id}-title` }, title), h('div', { class: 'body' }))]);
  const panels = h('div', { class: 'panels' }, sections.filter(([id]) => IN_PANELS.includes(id)).map(([, section]) => section));
  const main = h('main', { id: 'main' });
  for (const [id, section] of sections) {
    if (id === IN_PANELS[0]) main.append(panels);
    if (!IN_PANELS.includes(id)) main.append(section);
  }
  const bar = h('div', { class: 'bar' });
  document.body.append(
    h('header', {}, h('h1', {}, data.study), h('p', { class: 'soft' }, `${data.cells.length} cell${data.cells.length > 1 ? 's' : ''}, ${finished} of ${data.runs.length} runs finished, ${seeds} seed${seeds > 1 ? 's' : ''}. Compared on ${data.made.replace('T', ' at ').slice(0, 19)} by hldm ${data.hldm}.`)),
    bar, main, h('div', { id: 'tip', role: 'status' }));
  bar.append(h('div', {}, h('nav', { 'aria-label': 'Sections' }), filterBar()));
  drawAll();
  for (const [id, title] of SECTIONS) {
    if (document.getElementById(id)) document.querySelector('nav').append(h('a', { href: `#${id}` }, title));
  }
}

let resized, drawnAt = innerWidth;
addEventListener('resize', () => {
  clearTimeout(resized); // a phone that hides its address bar has another height, which changes nothing
  resized = setTimeout(() => { if (innerWidth !== drawnAt) { drawnAt = innerWidth; drawAll(); } }, 200);
});
addEventListener('beforeprint', () => { for (const details of document.querySelectorAll('details')) details.open = true; });
addEventListener('keydown', (event) => {
  if (event.key === '/' && !/^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName)) { event.preventDefault(); document.getElementById('filter').focus(); }
});
build();
