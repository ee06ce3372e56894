// Runs in every page before its own scripts. It notes when the page last changed or was visibly unfinished, so that
// "settled" is a moment that the browser itself has seen, free of what the measuring process takes.
(() => {
  const [ready, picture] = window.__wanted
  const now = () => performance.timeOrigin + performance.now() // ms since 1970
  const probe = (window.__probe = { busy: now(), begin: null, marks: {} })
  const roots = [document]
  const outside = (node) => !(node.nodeType === 1 ? node : node.parentElement)?.closest?.("header") // the running mark
  const seen = new MutationObserver((records) => {
    if (records.some((record) => outside(record.target))) probe.busy = now()
  })
  const watch = (root) => seen.observe(root, { childList: true, subtree: true, characterData: true })
  watch(document)
  const attach = Element.prototype.attachShadow
  Element.prototype.attachShadow = function (options) {
    const root = attach.call(this, options)
    roots.push(root)
    watch(root)
    return root
  }
  const inSight = (node) => {
    const box = node.getBoundingClientRect()
    return box.width > 0 && box.bottom > 0 && box.top < window.innerHeight
  }
  const all = (selector) =>
    roots.flatMap((root) => (root === document || root.isConnected ? [...root.querySelectorAll(selector)] : []))

  const unfinished = () => {
    const app = document.querySelector("[data-testid=stApp]")
    if (app && app.dataset.testScriptState !== "notRunning") return "the script runs"
    if (!document.querySelector(ready)) return `no ${ready}`
    if (document.querySelector("[data-testid=stSkeleton]")) return "a part is a skeleton"
    if (document.querySelector("[class*=st-key-preparing]")) return "a part is being computed"
    if (all("img").some((image) => inSight(image) && !image.complete)) return "a picture is on its way"
    return all(".tile.waiting").some(inSight) ? "a tile waits for its picture" : ""
  }
  const tick = () => {
    probe.why = unfinished()
    if (probe.why) probe.busy = now()
    if (!probe.marks.heading && document.querySelector(ready)) probe.marks.heading = performance.now()
    if (!probe.marks.gallery && all(picture).some((image) => image.naturalWidth && inSight(image)))
      probe.marks.gallery = performance.now()
    requestAnimationFrame(tick)
  }
  requestAnimationFrame(tick)

  for (const kind of ["pointerdown", "keydown", "wheel"])
    window.addEventListener(kind, (event) => { probe.begin ??= performance.timeOrigin + event.timeStamp }, { capture: true })

  probe.arm = () => { probe.begin = null; probe.busy = now() }
  probe.calm = (ms) => now() - probe.busy > ms
  probe.read = () => ({
    begin: probe.begin,
    busy: probe.busy,
    marks: {
      ...probe.marks,
      paint: performance.getEntriesByName("first-contentful-paint")[0]?.startTime,
      settled: probe.busy - performance.timeOrigin,
    },
  })
})()
