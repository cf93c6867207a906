// The dialog of the login. It lies over the page that was there, which goes on afterwards.

import { h, say } from "./dom.js";

/** Asks for a VM and its password until `attempt(vm, password)` succeeds. */
export function login(known, attempt) {
  return new Promise((resolve) => {
    const problem = h("p", { class: "problem", role: "alert" });
    const vm = h("input", { id: "login-vm", name: "username", autocomplete: "username", required: true, maxlength: 63,
      spellcheck: "false", autocapitalize: "none", value: known ?? "" });
    const password = h("input", { id: "login-password", name: "password", type: "password", autocomplete: "current-password", required: true });
    const button = h("button", { class: "primary" }, "Log in");
    const form = h("form", { onsubmit: async (event) => {
      event.preventDefault();
      button.disabled = true;
      say(problem, "");
      try {
        await attempt(vm.value.trim(), password.value);
        password.value = "";
        dialog.close();
        dialog.remove();
        resolve();
      } catch (error) {
        say(problem, error.message);
        password.select();
      } finally {
        button.disabled = false;
      }
    } },
      h("label", { for: "login-vm" }, "Virtual machine"), vm,
      h("label", { for: "login-password" }, "Password"), password,
      problem, button,
      h("p", { class: "hint" }, "The password is that of the VM. With the master password, all VMs are shown."));
    const dialog = h("dialog", { class: "login", "aria-labelledby": "login-title", oncancel: (event) => event.preventDefault() },
      h("h1", { id: "login-title" }, "UMLMON"), form);
    document.body.append(dialog);
    dialog.showModal();
    (known ? password : vm).focus();
  });
}
