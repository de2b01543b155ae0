"""How the report looks: one style sheet, for screens from 400 px wide and for paper."""

STYLESHEET = """
:root {
  --ink: #1c2024; --soft: #5c6670; --faint: #8b949e; --rule: #e3e6ea; --paper: #ffffff; --wash: #f6f7f9;
  --team: #0b7a75; --other: #6b7683; --better: #0b7a75; --single: #b45309; --undecided: #475569; --none: #475569;
  --accepted: #0b7a75; --rejected: #9aa3ad; --broken: #c02626; --threshold: #b45309;
  color-scheme: light;
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--wash); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Liberation Sans", Arial, sans-serif;
  font-variant-numeric: tabular-nums;
}
main { max-width: 940px; margin: 32px auto; background: var(--paper); border: 1px solid var(--rule);
  border-radius: 14px; padding: 44px 56px 40px; }
h1 { font-size: 15px; font-weight: 600; letter-spacing: .02em; margin: 0; color: var(--soft); }
h2 { font-size: 20px; line-height: 1.3; font-weight: 650; margin: 52px 0 6px; letter-spacing: -.01em; }
h3 { font-size: 15px; font-weight: 650; margin: 28px 0 4px; }
p { margin: 6px 0 12px; max-width: 68ch; }
.lead { color: var(--soft); }
.note { color: var(--soft); font-size: 14px; }
code { font: 13px/1.5 ui-monospace, "SF Mono", "DejaVu Sans Mono", Menlo, Consolas, monospace;
  overflow-wrap: anywhere; }
.meta { color: var(--faint); font-size: 14px; margin: 2px 0 0; overflow-wrap: anywhere; }

.verdict { margin: 26px 0 0; padding: 22px 26px 20px; border-radius: 12px; border: 1px solid; }
.verdict .word { font-size: 30px; line-height: 1.2; font-weight: 700; letter-spacing: -.02em; margin: 0 0 6px;
  max-width: none; }
.verdict .word::first-letter { text-transform: uppercase; }
.verdict .why { margin: 0; font-size: 17px; max-width: none; }
.verdict.better { background: #edf8f6; border-color: #b9e0db; } .verdict.better .word { color: var(--better); }
.verdict.single { background: #fdf5e9; border-color: #f1d9b3; } .verdict.single .word { color: var(--single); }
.verdict.undecided, .verdict.none { background: #f2f4f7; border-color: #d8dee6; }
.verdict.undecided .word, .verdict.none .word { color: var(--undecided); }
.incomplete { margin: 16px 0 0; padding: 12px 18px; border-left: 4px solid var(--single); background: #fdf5e9;
  max-width: none; }

.figures { display: grid; grid-template-columns: repeat(4, 1fr); gap: 1px; margin: 20px 0 0; background: var(--rule);
  border: 1px solid var(--rule); border-radius: 12px; overflow: hidden; }
.figures div { background: var(--paper); padding: 14px 18px 12px; }
.figures dt { color: var(--soft); font-size: 13px; }
.figures dd { margin: 0; }
.figures dd.big { font-size: 23px; line-height: 1.35; font-weight: 650; letter-spacing: -.01em; }
.figures dd.small { color: var(--soft); font-size: 13px; line-height: 1.4; }

.scroll { overflow-x: auto; margin: 14px 0; }
table { border-collapse: collapse; width: 100%; font-size: 14px; line-height: 1.4; }
th { text-align: left; font-weight: 600; color: var(--soft); font-size: 13px; vertical-align: bottom; }
th, td { padding: 7px 12px 7px 0; border-bottom: 1px solid var(--rule); }
th:last-child, td:last-child { padding-right: 0; }
td { vertical-align: top; }
.number { text-align: right; white-space: nowrap; }
tfoot td { font-weight: 650; border-bottom: 0; border-top: 2px solid var(--ink); }
tr:has(.us) td { background: #f3faf9; }
.arm-name { display: block; min-width: 104px; }
td small { display: block; color: var(--soft); font-size: 12.5px; }
.reason { min-width: 170px; } td .component { white-space: nowrap; }
.badge { display: inline-block; padding: 0 8px; border-radius: 99px; font-size: 12.5px; font-weight: 600;
  white-space: nowrap; border: 1px solid; }
.badge.accepted { color: var(--accepted); border-color: #b9e0db; background: #edf8f6; }
.badge.rejected { color: #5c6670; border-color: #d8dee6; background: #f6f7f9; }
.badge.skipped { color: #8b949e; border-color: #e3e6ea; background: #ffffff; }
.badge.broken { color: var(--broken); border-color: #f3c6c6; background: #fdf1f1; }

dl.facts { display: grid; grid-template-columns: minmax(130px, max-content) 1fr; gap: 5px 24px; margin: 12px 0;
  font-size: 15px; }
dl.facts dt { color: var(--soft); } dl.facts dd { margin: 0; overflow-wrap: anywhere; }

.picture { margin: 18px 0 14px; }
.picture svg { display: block; overflow: visible; }
.density .picture { padding-left: 48px; }
.team-figure { margin: 18px 0; overflow-x: auto; }
.team-figure img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
pre { background: var(--wash); border: 1px solid var(--rule); border-radius: 8px; padding: 14px; overflow-x: auto; }
svg text { font-size: 13px; fill: var(--ink); }
svg .tick { font-size: 12px; fill: var(--faint); }
svg .grid { stroke: var(--rule); } svg .track { stroke: var(--rule); stroke-width: 1; }
.arm-row { display: grid; grid-template-columns: 200px 1fr 66px; column-gap: 18px; align-items: center;
  font-size: 14px; line-height: 1.25; }
.arm-row svg { grid-column: 2; }
.arm-row .value { font-weight: 650; text-align: right; }
svg .interval { stroke-width: 5; stroke-linecap: round; stroke: var(--other); opacity: .42; }
svg .mean { fill: var(--other); stroke: var(--paper); stroke-width: 2; }
.team .interval { stroke: var(--team); } .team .mean { fill: var(--team); }
.arm-row.team { color: var(--team); } .arm-row.team .arm { font-weight: 650; }
svg .behind { fill: var(--wash); } svg .zero { stroke: var(--ink); }
svg .margin { stroke: var(--single); stroke-dasharray: 4 3; }
svg .threshold { stroke: var(--threshold); stroke-width: 1.5; }
svg .name { font-size: 12.5px; font-weight: 600; fill: var(--accepted); paint-order: stroke; stroke: var(--paper);
  stroke-width: 3px; }
svg .leader { stroke: var(--accepted); opacity: .45; }
svg .component.accepted circle { fill: var(--accepted); stroke: var(--paper); stroke-width: 1.5; }
svg .component.rejected circle { fill: var(--paper); stroke: var(--rejected); stroke-width: 1.75; }
svg .component.skipped circle { fill: #d5dae0; }
svg .component .cross { fill: var(--broken); font-size: 17px; font-weight: 700; }
.key, .legend { display: flex; flex-wrap: wrap; gap: 4px 22px; list-style: none; margin: 8px 0 14px; padding: 0;
  font-size: 13.5px; color: var(--soft); }
.swatch { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin-right: 7px; }
.dot { display: inline-block; width: 11px; height: 11px; border-radius: 50%; margin-right: 7px; vertical-align: -1px; }
.dot.accepted { background: var(--accepted); } .dot.rejected { border: 2px solid var(--rejected); }
.dot.skipped { background: #d5dae0; transform: scale(.6); }
.dash { display: inline-block; width: 18px; border-top: 2px solid var(--threshold); margin-right: 7px;
  vertical-align: 4px; }
.x { color: var(--broken); font-weight: 700; margin-right: 7px; }
.slice-0 { fill: #0b7a75; background: #0b7a75; } .slice-1 { fill: #4c78a8; background: #4c78a8; }
.slice-2 { fill: #d9912b; background: #d9912b; } .slice-3 { fill: #8a6bb1; background: #8a6bb1; }
.slice-4 { fill: #7fa65a; background: #7fa65a; } .slice-5 { fill: #c4667a; background: #c4667a; }
.slice-6 { fill: #77838f; background: #77838f; } .slice-7 { fill: #b59a6a; background: #b59a6a; }
.slice rect { stroke: var(--paper); stroke-width: 1; }
footer { margin-top: 48px; padding-top: 16px; border-top: 1px solid var(--rule); color: var(--faint); font-size: 13px; }

@media (max-width: 640px) {
  main { margin: 0; border: 0; border-radius: 0; padding: 24px 18px; }
  h2 { margin-top: 40px; }
  .verdict { padding: 16px 18px; } .verdict .word { font-size: 24px; } .verdict .why { font-size: 16px; }
  .figures { grid-template-columns: repeat(2, 1fr); } .figures div { padding: 11px 13px; }
  .figures dd.big { font-size: 19px; }
  dl.facts { grid-template-columns: 1fr; gap: 0; } dl.facts dd { margin-bottom: 8px; }
  .arm-row { grid-template-columns: 1fr auto; padding-top: 6px; }
  .arm-row svg { grid-column: 1 / -1; grid-row: 2; }
  .team-figure img { max-width: none; width: 560px; }
}
@media print {
  @page { margin: 16mm; }
  body { background: none; font-size: 10.5pt; }
  main { margin: 0; border: 0; padding: 0; max-width: none; }
  * { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
  h2, h3 { break-after: avoid; } .picture, .verdict, .figures, .team-figure, tr { break-inside: avoid; }
  .scroll { overflow: visible; } table { font-size: 9pt; } .reason { min-width: 0; }
}
"""
