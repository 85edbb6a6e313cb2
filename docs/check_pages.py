"""Make screenshots of all pages, and fail where code or a table is cut off.

    python docs/check_pages.py docs/_build/html FOLDER [--browser chromium]

It needs Chromium, which it runs without a window, 1,200 and 1,600 pixels wide. FOLDER gets
a PNG for each page and width. A page fails if the page itself, a block of code or a table
is wider than its place, so that a reader would have to scroll sideways. Output of examples
is not counted: frames are as wide as they are.
"""

import argparse
import html
import json
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

WIDTHS = (1200, 1600)
# Counted from the styles that the page really has; the result replaces the page.
SCRIPT = """
<script>
window.addEventListener("load", () => setTimeout(() => {
  const wide = [];
  const root = document.documentElement;
  const check = (element, kind) => {
    if (element.scrollWidth > element.clientWidth + 1 && element.clientWidth > 0) {
      wide.push([kind, element.scrollWidth - element.clientWidth,
                 element.innerText.trim().slice(0, 60)]);
    }
  };
  check(root, "page");
  const article = document.querySelector("article") || document.body;
  for (const block of article.querySelectorAll("div.highlight pre")) {
    if (!block.closest(".sphx-glr-script-out")) check(block, "code");
  }
  for (const table of article.querySelectorAll("table")) {
    if (table.closest(".output_html, .sphx-glr-script-out")) continue;
    const around = table.parentElement;
    if (table.scrollWidth > around.clientWidth + 1) {
      wide.push(["table", table.scrollWidth - around.clientWidth,
                 table.innerText.trim().slice(0, 60)]);
    }
  }
  const report = {height: root.scrollHeight, wide: wide};
  document.body.innerHTML = "<pre id='report'></pre>";
  document.getElementById("report").textContent = JSON.stringify(report);
}, 300));
</script>
"""


def run(browser, *arguments):
    """Output of a browser without a window."""
    with tempfile.TemporaryDirectory() as profile:
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        command = [browser, *flags, f"--user-data-dir={profile}", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    return done.stdout


def measure(browser, page, width):
    """Height of a page, and what is too wide in it."""
    source = page.read_text(encoding="utf-8").replace("</body>", f"{SCRIPT}</body>")
    copy = page.with_name(f"_{width}_{page.name}")  # beside it, so that links hold
    copy.write_text(source, encoding="utf-8")
    try:
        dom = run(
            browser,
            f"--window-size={width},1000",
            "--virtual-time-budget=8000",
            "--dump-dom",
            copy.as_uri(),
        )
    finally:
        copy.unlink()
    found = re.search(r'<pre id="report">(.*?)</pre>', dom, re.DOTALL)
    if found is None:
        raise RuntimeError(f"{page.name} could not be measured.")
    report = json.loads(html.unescape(found[1]))
    return report["height"], report["wide"]


def check(browser, root, page, width, folder):
    """Lines that say what is too wide on a page; makes its screenshot."""
    height, wide = measure(browser, page, width)
    name = page.relative_to(root).with_suffix("").as_posix().replace("/", "-")
    target = (folder / f"{name}-{width}.png").resolve()
    run(browser, f"--window-size={width},{height}", f"--screenshot={target}", page.as_uri())
    if not target.exists():
        raise RuntimeError(f"There is no screenshot of {page.name}.")
    return [f"{name}, {width}: {kind} +{more} px: {text!r}" for kind, more, text in wide]


def main():
    """Check all pages; the exit status is 1 if something is too wide."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("pages", type=Path, help="folder of the built pages")
    parser.add_argument("screenshots", type=Path, help="folder to write to")
    parser.add_argument("--browser", default="chromium")
    parser.add_argument("--only", default="", help="part of the names of pages")
    options = parser.parse_args()
    root = options.pages.resolve()
    options.screenshots.mkdir(parents=True, exist_ok=True)
    pages = [
        page
        for page in sorted(root.rglob("*.html"))
        if options.only in page.as_posix()
        and not page.is_relative_to(root / "_static")
        and page.stem not in ("genindex", "search", "py-modindex")
    ]
    if not pages:
        parser.error(f"There is no page in {root}.")
    jobs = [(page, width) for page in pages for width in WIDTHS]
    with ThreadPoolExecutor(2) as pool:
        results = pool.map(
            lambda job: check(options.browser, root, *job, options.screenshots), jobs
        )
        lines = [line for found in results for line in found]
    print("\n".join(lines) if lines else f"{len(pages)} pages, nothing is cut off.")
    sys.exit(bool(lines))


if __name__ == "__main__":
    main()
