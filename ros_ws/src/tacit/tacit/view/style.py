"""The look of our pages: one style sheet, light and dark, print included."""

STYLE = """
:root{color-scheme:light dark;--bg:#fcfcfa;--fg:#1d2126;--soft:#5e6670;--rule:#e2e3df;--tile:#f3f3ef;
--c0:#2563b0;--c1:#d9731a;--c2:#2c8c57;--c3:#c0392f;--c4:#7a4fb5;--c5:#8a6d3b;--c6:#0f8b99;--c7:#c2488f;
--ok:#2c8c57;--warn:#b4690e;--bad:#c0392f;--note:#5e6670;--band:.10}
@media (prefers-color-scheme:dark){:root{--bg:#15171a;--fg:#e6e7e4;--soft:#9aa2ab;--rule:#2c3036;
--tile:#1d2024;
--c0:#6aa8f0;--c1:#f0a050;--c2:#62c98d;--c3:#ef7a70;--c4:#b596ea;--c5:#c9ab73;--c6:#56c6d3;--c7:#ec8cc4;
--ok:#62c98d;--warn:#f0b35a;--bad:#ef7a70;--note:#9aa2ab;--band:.16}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--fg);
font:16px/1.55 ui-sans-serif,system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main{max-width:960px;margin:0 auto;padding:48px 24px 96px}
header{margin-bottom:28px}
h1{font-size:30px;line-height:1.2;letter-spacing:-.015em;margin:0 0 6px;font-weight:650}
h2{font-size:21px;letter-spacing:-.01em;margin:52px 0 10px;padding-top:16px;
border-top:1px solid var(--rule);font-weight:620}
h3{font-size:16px;margin:28px 0 6px;font-weight:620}
p{margin:8px 0 12px;max-width:72ch}
.lead{color:var(--soft);font-size:17px;margin:0}
nav{display:flex;flex-wrap:wrap;gap:4px 18px;font-size:14px;margin:0 0 8px}
a{color:var(--c0);text-decoration:none}a:hover{text-decoration:underline}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(132px,1fr));gap:10px;margin:18px 0 22px}
.tiles div{background:var(--tile);border-radius:8px;padding:12px 14px}
.tiles b{display:block;font-size:21px;font-weight:620;letter-spacing:-.01em;
font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
.tiles span{color:var(--soft);font-size:13px}
figure{margin:18px 0 26px}
figure img{max-width:100%;height:auto;border-radius:6px;display:block}
figcaption{color:var(--soft);font-size:14px;margin-top:8px;max-width:76ch}
svg.plot{width:100%;height:auto;display:block;overflow:visible}
svg.plot text{fill:var(--soft);font-size:11.5px;font-family:inherit;font-variant-numeric:tabular-nums}
svg.plot text.label{fill:var(--fg);font-size:12.5px}
svg.plot text.band-label{font-size:11px}
svg .grid{stroke:var(--rule);stroke-width:1}
svg .axis,svg .tick{stroke:var(--soft);stroke-width:1}
svg .line{fill:none;stroke-width:1.7;stroke-linejoin:round;stroke-linecap:round}
svg .band{opacity:var(--band)}
svg .ref{stroke:var(--soft);stroke-width:1.2;stroke-dasharray:3 4}
.scroll{overflow-x:auto;margin:16px 0 24px}
table{border-collapse:collapse;width:100%;font-size:14px;font-variant-numeric:tabular-nums}
caption{text-align:left;color:var(--soft);padding-bottom:8px}
th{font-weight:600;text-align:left;border-bottom:1.5px solid var(--soft);padding:6px 14px 6px 0;
vertical-align:bottom}
td{border-bottom:1px solid var(--rule);padding:6px 14px 6px 0;vertical-align:top;overflow-wrap:anywhere}
td.n,th.n{text-align:right;padding-left:14px;padding-right:0;overflow-wrap:normal;white-space:nowrap}
.badge{font-size:12px;font-weight:620;border:1px solid currentColor;border-radius:99px;padding:1px 9px;
white-space:nowrap}
.ok{color:var(--ok)}.warn{color:var(--warn)}.bad{color:var(--bad)}.note{color:var(--note)}
code,pre{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:.88em}
code{background:var(--tile);border-radius:4px;padding:1px 5px}
pre{background:var(--tile);border-radius:8px;padding:14px 16px;overflow-x:auto;line-height:1.45}
details{margin:14px 0}summary{cursor:pointer;color:var(--c0)}
@media print{main{max-width:none;padding:0}nav{display:none}figure,table{break-inside:avoid}}
"""
"""Colours --c0..--c7 are told apart by the colour blind in this order; contrast on the ground above 3."""
