// Tables that sort by any of their columns: of cells, and of runs with everything that is known of one.

// columns: [{heading, value(row), show(row), isNumber}]; state keeps the order while the table is drawn again.
function table(columns, rows, state, caption, redraw, classOf = () => null) {
  const by = columns[state.by];
  const sorted = by ? [...rows].sort((a, b) => order(by.value(a), by.value(b)) * (missingLast(by.value(a), by.value(b)) ? 1 : state.way)) : rows;
  const head = columns.map((column, i) => {
    const sort = i === state.by ? (state.way > 0 ? 'ascending' : 'descending') : 'none';
    const press = () => { state.way = i === state.by ? -state.way : 1; state.by = i; redraw(i); };
    const sign = { ascending: ' ▲', descending: ' ▼', none: '' }[sort];
    return h('th', { scope: 'col', class: column.isNumber && 'number', 'aria-sort': sort }, h('button', { type: 'button', onclick: press }, column.heading + sign));
  });
  const body = sorted.map((row) => h('tr', { class: classOf(row) }, columns.map((column) => {
    const shown = column.show ? column.show(row) : column.value(row);
    return h('td', { class: column.isNumber ? 'number' : 'name' }, column.isNumber && typeof shown === 'number' ? number(shown) : shown ?? '–');
  })));
  return h('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': caption }, h('table', {}, h('caption', {}, h('span', {}, caption)), h('thead', {}, h('tr', {}, head)), h('tbody', {}, body)));
}

// What is not known stays last, whichever way a table is sorted.
function missingLast(a, b) {
  return [a, b].some((value) => value === null || value === undefined || value === '');
}

// Draws a table again and keeps the keyboard where it was.
function sortable(root, draw) {
  const redraw = (column) => {
    clear(root, draw(redraw));
    if (column !== undefined) root.querySelectorAll('th button')[column]?.focus();
  };
  redraw();
}

const cellOrder = { by: -1, way: 1 };
const runOrder = { by: -1, way: 1 };

function drawCells(root) {
  const shownColumns = [
    { heading: 'cell', value: (cell) => cell.name },
    { heading: 'seeds', isNumber: true, value: (cell) => cell.seeds.length, show: (cell) => { const left = Object.keys(cell.unfinished).length; return left ? `${cell.seeds.length} of ${cell.seeds.length + left}` : String(cell.seeds.length); } },
    ...data.figures.map((figure) => ({ heading: headingOf(figure), isNumber: true, value: (cell) => cell.means[figure.name]?.[0] ?? null, show: (cell) => cellFigure(cell, figure) })),
  ];
  sortable(root, (redraw) => { const cells = shownCells(); return table(shownColumns, cells, cellOrder, `${cells.length} of ${data.cells.length} cells: means over seeds ± 95 % interval. ✔ better, ✘ worse than the baseline, after correction`, redraw); });
}

function cellFigure(cell, figure) {
  const mean = cell.means[figure.name], apart = cell.differences[figure.name];
  if (!mean) return '–';
  const way = apart && apart[2] ? apart[3] : '';
  return way ? h('span', { class: way }, `${{ better: '✔ ', worse: '✘ ' }[way] || ''}${mean[3]}`) : mean[3];
}

function drawRuns(root) {
  const varied = data.settings.map((name, i) => [name, i]).filter(([name]) => !isOfGeometry(name)).slice(0, 6);
  const shortest = (name) => name.split('.').slice(name.endsWith('._target_') ? -2 : -1)[0];
  const shownColumns = [
    { heading: 'run', value: (run) => run.name, show: (run) => h('button', { type: 'button', onclick: () => openRun(run) }, run.name) },
    { heading: 'state', value: (run) => run.state, show: (run) => h('span', { class: run.state === 'failed' && 'state-failed' }, run.state) },
    { heading: 'geometry', value: (run) => run.geometry },
    { heading: 'curvature', value: (run) => (Number(run.curvature) || run.curvature) },
    { heading: 'seed', isNumber: true, value: (run) => run.seed },
    ...varied.map(([name, i]) => ({ heading: shortest(name), value: (run) => run.own[i], show: (run) => (run.own[i] ?? '–').split('.').slice(name.endsWith('._target_') ? -1 : 0).join('.') })),
    ...data.figures.map((figure) => ({ heading: headingOf(figure), isNumber: true, value: (run) => scaled(metricOf(run, figure.name), figure.scale) })),
    { heading: 'minutes', isNumber: true, value: (run) => run.minutes },
  ];
  sortable(root, (redraw) => { const runs = shownRuns(); return table(shownColumns, runs, runOrder, `${runs.length} of ${data.runs.length} runs; a name opens all that is known of it`, redraw, (run) => run.state); });
}

const scaled = (value, factor) => (value === null ? null : value * factor);

function openRun(run) {
  const rows = (pairs) => h('table', {}, h('tbody', {}, pairs.map(([key, value]) => h('tr', {}, h('th', { scope: 'row' }, key), h('td', { class: 'name' }, value)))));
  const own = data.settings.map((name, i) => [name, run.own[i]]).filter(([, value]) => value !== null);
  const metrics = data.metrics.map((name) => [name, metricOf(run, name)]).filter(([, value]) => value !== null);
  const dialog = h('dialog', { 'aria-label': run.name, onclose: () => dialog.remove() },
    h('form', { method: 'dialog', class: 'controls' }, h('h2', {}, run.name), h('button', {}, 'Close')),
    run.error && h('p', { class: 'state-failed' }, run.error),
    rows([['state', run.state], ...Object.entries(run.about), ...Object.entries(run.seconds).map(([stage, seconds]) => [`seconds, ${stage}`, number(seconds)])]),
    own.length > 0 && [h('h3', {}, 'Settings that other runs have otherwise'), rows(own)],
    metrics.length > 0 && [h('h3', {}, `${metrics.length} metrics, as in results.json`), rows(metrics.map(([name, value]) => [name, number(value, 6)]))]);
  document.body.append(dialog);
  dialog.showModal();
}
