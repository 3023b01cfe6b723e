// Curves along guidance and steps, precision against recall, hierarchy against what chance gives, training.

const MOST_CELLS = 24;
const MOST_RUNS = 60;
const panelState = { setting: '', curveMetric: '', hierarchy: '', training: '', isLog: false };

const few = (found, most, what) => (found.length > most ? h('p', { class: 'soft' }, `The first ${most} of ${found.length} ${what}. The filters above choose others.`) : null);
const redrawn = (root, draw, key) => (value) => { panelState[key] = value; keepingFocus(root, draw); };

const curveHeading = (metric) => data.curveHeadings[metric] ?? metric;

function drawCurves(root) {
  const settings = unique(data.curves.map((curve) => curve.setting));
  if (!settings.length) return root.closest('section').remove();
  const setting = panelState.setting || settings[0];
  const metrics = unique(data.curves.filter((curve) => curve.setting === setting).flatMap((curve) => Object.keys(curve.means)));
  const metric = metrics.includes(panelState.curveMetric) ? panelState.curveMetric : metrics.find((name) => name === 'fid') || metrics[0];
  const shown = new Set(shownCells().map((cell) => cell.index));
  const curves = data.curves.filter((curve) => curve.setting === setting && shown.has(curve.cell) && curve.means[metric]);
  const series = curves.slice(0, MOST_CELLS).map((curve) => {
    const cell = data.cells[curve.cell];
    const points = curve.values.map((value, i) => [value, curve.means[metric][i]]).filter(([, pair]) => pair).map(([value, [mean, margin]]) => ({
      x: value, y: mean, low: margin && mean - margin, high: margin && mean + margin,
      text: `${setting} ${value}\n${curveHeading(metric)} ${number(mean)}${margin ? ` ± ${number(margin, 2)}` : ''}`,
    }));
    return { name: cell.name, style: styleOf(cell), points };
  });
  const best = curves.filter((curve) => curve.best['']).slice(0, MOST_CELLS).map((curve) => `${data.cells[curve.cell].name}: ${unique(curve.best['']).join(', ')}`);
  const [one] = curves;
  return clear(root,
    h('div', { class: 'controls' },
      settings.length > 1 && choice('Along', settings.map((name) => [name, name]), setting, redrawn(root, drawCurves, 'setting')),
      choice('Metric', metrics.map((name) => [name, curveHeading(name)]), metric, redrawn(root, drawCurves, 'curveMetric'))),
    chart({ label: `${curveHeading(metric)} along ${setting}`, xLabel: setting, yLabel: curveHeading(metric), series, bounds: data.curveBounds[metric] }),
    few(curves, MOST_CELLS, 'cells'),
    one && h('p', { class: 'soft' }, `Mean over seeds ± 95 % interval, on ${one.samples ?? '?'} samples against ${one.split} images, never test images.`),
    best.length > 0 && h('details', {}, h('summary', {}, `What the runs chose on validation`), h('p', {}, best.join('; '))));
}

function drawPrecision(root) {
  const runs = shownRuns().filter((run) => metricOf(run, 'precision') !== null && metricOf(run, 'recall') !== null);
  if (!data.runs.some((run) => metricOf(run, 'recall') !== null)) return root.closest('section').remove();
  const cells = unique(runs.map((run) => run.cell)).filter((cell) => cell !== null);
  const series = cells.slice(0, MOST_CELLS).map((index) => ({
    name: data.cells[index].name, style: styleOf(data.cells[index]), hasLine: false,
    points: runs.filter((run) => run.cell === index).map((run) => ({
      x: metricOf(run, 'recall'), y: metricOf(run, 'precision'),
      text: `seed ${run.seed}\nprecision ${number(metricOf(run, 'precision'))}, recall ${number(metricOf(run, 'recall'))}`,
    })),
  }));
  return clear(root, chart({ label: 'Precision against recall', xLabel: 'recall ↑ (how much of the data is covered)', yLabel: 'precision ↑', series, bounds: [0, 1], xBounds: [0, 1] }), few(cells, MOST_CELLS, 'cells'),
    h('p', { class: 'soft' }, 'A mark for each run, at the guidance that it has by its settings. Up and to the right is better.'));
}

function drawHierarchy(root) {
  const there = data.hierarchy.filter((one) => data.cells.some((cell) => cell.hierarchy[one.name]));
  if (!there.length) return root.closest('section').remove();
  const chosen = there.find((one) => one.name === panelState.hierarchy) || there.find((one) => one.controls.some(([, name]) => data.metrics.includes(name))) || there[0];
  const cells = shownCells().filter((cell) => cell.hierarchy[chosen.name]);
  const controls = chosen.controls.filter(([, name]) => cells.some((cell) => cell.hierarchy[name]));
  const at = (cell, name, hollow, what) => {
    const [mean, margin, n, text] = cell.hierarchy[name];
    return { x: cell.name, y: mean, low: margin && mean - margin, high: margin && mean + margin, hollow, text: `${cell.name}\n${text}\n${n} seed${n > 1 ? 's' : ''}` };
  };
  const some = cells.slice(0, MOST_CELLS);
  const series = [
    { name: chosen.heading, style: { colour: 'var(--c0)', marker: 'circle' }, hasLine: false, points: some.map((cell) => at(cell, chosen.name, false, chosen.heading)) },
    ...controls.map(([what, name], i) => ({ name: what, style: { colour: `var(--c${i + 1})`, marker: MARKERS[i + 1] }, hasLine: false, points: some.filter((cell) => cell.hierarchy[name]).map((cell) => at(cell, name, true, what)) })),
  ];
  // a p-value stands beside the level at which it counts
  const lines = chosen.name.endsWith('_p') ? [{ y: 0.05, text: '.05' }] : [];
  return clear(root,
    h('div', { class: 'controls' }, choice('Metric', there.map((one) => [one.name, one.heading]), chosen.name, redrawn(root, drawHierarchy, 'hierarchy'))),
    chart({ label: `${chosen.heading} beside its controls`, xLabel: '', yLabel: chosen.heading, series, lines }),
    few(cells, MOST_CELLS, 'cells'),
    h('p', { class: 'soft' }, controls.length ? 'Filled: the latents. Open: what chance or a cloud without a hierarchy gives. Where they meet, no hierarchy is seen.' : 'This metric has no control of its own.'));
}

function drawTraining(root) {
  const names = unique(data.training.curves.flatMap((curves) => Object.keys(curves)));
  if (!names.length) return root.closest('section').remove();
  const name = names.includes(panelState.training) ? panelState.training : names.find((one) => one === 'diffusion loss') || names[0];
  const runs = shownRuns().filter((run) => data.training.curves[run.index][name]);
  const series = runs.slice(0, MOST_RUNS).map((run) => {
    const [place, values] = data.training.curves[run.index][name], steps = data.training.steps[place];
    const style = run.cell === null ? { colour: 'var(--c6)', marker: 'ring', dash: '' } : styleOf(data.cells[run.cell]);
    const cellName = run.cell === null ? run.name : data.cells[run.cell].name;
    return { name: cellName, style, fewMarks: true, points: values.map((value, i) => ({ x: steps[i], y: value, text: `seed ${run.seed}, step ${steps[i]}\n${name} ${number(value)}` })) };
  });
  const box = h('input', { type: 'checkbox', onchange: () => redrawn(root, drawTraining, 'isLog')(box.checked) });
  box.checked = panelState.isLog;
  return clear(root,
    h('div', { class: 'controls' }, choice('Curve', names.map((one) => [one, one.replaceAll('_', ' ')]), name, redrawn(root, drawTraining, 'training')), h('label', {}, box, ' logarithmic')),
    chart({ label: `${name} while training`, xLabel: 'step', yLabel: name.replaceAll('_', ' '), series, isLog: panelState.isLog }), few(runs, MOST_RUNS, 'runs'),
    h('p', { class: 'soft' }, 'From metrics.jsonl; with many lines a point is the mean of those since the one before. Losses of different geometries or targets are on different scales.'));
}
