// The pictures of the documentation: each page, light and dark. `cargo xtask screenshots` runs it.

import { launch, login, main, master, open, prompt, status, type, until } from "./lib.mjs";

const [directory = "."] = process.argv.slice(2);
const browser = await launch(["--font-render-hinting=none"]);

for (const colorScheme of ["light", "dark"]) {
  const page = await open(browser, "/", { colorScheme, viewport: { width: 960, height: 600 } });
  const picture = (name) => page.screenshot({ path: `${directory}/web-${name}-${colorScheme}.png` });
  const go = (path) => page.goto(new URL(path, page.url()).href);
  await main({
    async login() {
      await page.getByLabel("Password").waitFor();
      await login(page, "vm1", master);
      await page.getByRole("heading", { name: "Virtual machines" }).waitFor();
    },
    async list() {
      await until("figures are there", async () => (await page.locator("td[data-label=Processor]").first().textContent()) !== "");
      await picture("list");
    },
    async console() {
      await go("/#/vm/vm1/con1");
      await status(page, "watching");
      await prompt(page);
      await page.getByRole("button", { name: /Write|Take over/ }).click();
      await until("it writes", async () => (await page.locator(".status").first().textContent()).startsWith("writing"));
      await type(page, "clear; uname -srm; df -h /; ls --color=always /");
      await page.waitForTimeout(1500);
      await picture("console");
    },
    async vm() {
      await go("/#/vm/vm1");
      await page.getByRole("heading", { name: "Consoles" }).waitFor();
      await page.waitForTimeout(2500);
      await picture("vm");
    },
    async wall() {
      await go("/#/wall");
      await until("the tiles have text", async () => (await page.locator(".tile pre").first().textContent()).length > 20);
      await page.waitForTimeout(1500);
      await picture("wall");
    },
  }, false);
  await page.context().close();
}
process.exit(0);
