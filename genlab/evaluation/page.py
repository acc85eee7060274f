"""A page of HTML that needs no other file, no script and no network."""

import html

STYLE = """
:root{color-scheme:light dark;--ink:#1c1f23;--soft:#646b73;--line:#e1e4e8;--page:#fff;--tint:#f5f6f8;--accent:#3b6ea5}
@media(prefers-color-scheme:dark){:root{--ink:#e4e6e9;--soft:#9aa2ab;--line:#33383f;--page:#16181b;--tint:#1f2226;
--accent:#8ab4e0}}
*{box-sizing:border-box}
body{margin:0 auto;padding:3rem 1.25rem 4rem;max-width:54rem;background:var(--page);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;overflow-wrap:break-word}
h1{font-size:1.9rem;line-height:1.2;font-weight:650;letter-spacing:-.015em;margin:0}
h1 span{color:var(--soft);font-weight:400}
h2{font-size:1.05rem;font-weight:650;margin:3rem 0 1rem;padding-bottom:.35rem;border-bottom:1px solid var(--line)}
p{margin:.6rem 0}
a{color:var(--accent)}
.soft,.protocol,figcaption,dt{color:var(--soft);font-size:.875rem}
.facts{display:flex;flex-wrap:wrap;gap:.75rem 1.75rem;margin:1.25rem 0 0}
.facts dd{margin:0;font-size:.94rem;font-variant-numeric:tabular-nums}
.questions{display:grid;grid-template-columns:repeat(auto-fit,minmax(14.5rem,1fr));gap:1rem}
.question{background:var(--tint);border-radius:8px;padding:1rem 1.15rem}
.question h3{margin:0 0 .5rem;font-size:.8rem;font-weight:650;letter-spacing:.06em;text-transform:uppercase;
color:var(--accent)}
.number+.number{margin-top:.9rem}
.value{font-size:1.35rem;line-height:1.25;font-weight:600;letter-spacing:-.01em;font-variant-numeric:tabular-nums}
.value small{font-size:.82rem;font-weight:400;letter-spacing:0;color:var(--soft)}
.protocol{line-height:1.4;font-size:.8rem}
figure{margin:0 0 2.25rem}
.frame{background:#fff;border:1px solid var(--line);border-radius:8px;padding:.75rem;overflow-x:auto}
.frame img{display:block;max-width:100%;height:auto;margin:0 auto}
figcaption{margin-top:.55rem}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.875rem}
th,td{text-align:left;vertical-align:top;padding:.4rem .9rem .4rem 0;border-bottom:1px solid var(--line)}
th{font-weight:500;color:var(--soft)}
td.n{white-space:nowrap;font-variant-numeric:tabular-nums}
pre{background:var(--tint);border-radius:8px;padding:.9rem 1.1rem;margin:.6rem 0;white-space:pre-wrap;
overflow-wrap:anywhere}
pre,code,.mono{font:.84rem/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}
details{margin-top:1rem}
summary{cursor:pointer;color:var(--accent);padding:.3rem 0}
@media(max-width:36rem){body{padding-top:1.75rem}.frame{padding:.4rem}.frame img.plot{max-width:none;width:34rem}}
@media(prefers-color-scheme:dark){.frame{background:#eceef0;border-color:transparent}
.frame img{mix-blend-mode:multiply}}
@media print{:root{--tint:#fff;--line:#ccc}body{max-width:none;padding:0;font-size:11pt}
figure,.question,tr{break-inside:avoid}h2{break-after:avoid}.question{border:1px solid var(--line)}
details::details-content{content-visibility:visible;block-size:auto}}
"""


def page(title: str, body: list[str]) -> str:
    """The whole page; `title` is text, `body` HTML."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        # nothing is loaded from anywhere, whatever a name or a caption holds
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">"
        f"<title>{text(title)}</title><style>{STYLE}</style></head>\n<body>\n" + "\n".join(body) + "\n</body></html>\n"
    )


def text(value: object) -> str:
    """Anything as text in HTML."""
    return html.escape(str(value), quote=True)
