"""Open pages in a real Chromium, without a window and without a word to anybody but this machine."""

import shutil
from contextlib import contextmanager

import pytest

OPTIONS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
NAMES = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def browser():
    """Start Chromium with a new profile; skips the test where it, or the package that drives it, is not installed."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("needs Chromium")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=program, args=OPTIONS)
        yield chromium
        chromium.close()


@contextmanager
def page_of(chromium, url, expected=(), **options):
    """Open a page; fails at the end if it wrote an error but those expected, or asked another server for anything."""
    context = chromium.new_context(**options)
    page = context.new_page()
    errors = []
    page.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: request.url.startswith((url, f"blob:{url}")) or errors.append(request.url))
    page.goto(url)
    page.locator("#examples img").nth(5).wait_for()
    yield page
    context.close()
    assert len(errors) == len(expected), errors
    assert all(part in error for part, error in zip(expected, errors, strict=True)), errors


def drop(page, content, name="photo.jpg", kind="image/jpeg", event="drop"):
    """Drop a file onto the page, or paste it."""
    transfer = page.evaluate_handle(
        """([bytes, name, type]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], name, { type }));
            return transfer;
        }""",
        [list(content), name, kind],
    )
    page.evaluate(
        """([transfer, event]) => document.body.dispatchEvent(event === "drop"
            ? new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true })
            : new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true }))""",
        [transfer, event],
    )


def wait_until_done(page):
    """Wait for the overlay."""
    page.wait_for_selector("body[data-state=done]", timeout=30_000)
    page.wait_for_timeout(700)  # the overlay fades in


def violations(page):
    """Return what axe-core finds against accessibility."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    found = axe.Axe().run(page).response["violations"]
    return [(entry["id"], [node["html"][:90] for node in entry["nodes"]]) for entry in found]
