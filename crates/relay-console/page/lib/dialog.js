// Dialogs: the browser's own, which keep the focus, close on Escape and give the focus back.

import { h } from "./dom.js";

let count = 0;

/**
 * Opens a dialog. Escape, its button and a click beside it close it.
 * @param {{title: string|Node, body: Node, kind?: string, closable?: boolean, onClose?: () => void}} options
 * `kind` is a class: `panel` for one at the edge.
 * @returns {{close: () => void, element: HTMLDialogElement}}
 */
export function openDialog({ title, body, kind = "", closable = true, onClose = () => {} }) {
  const id = `dialog-${(count += 1)}`;
  const before = document.activeElement;
  const close = () => element.close();
  const element = h(
    "dialog",
    {
      class: kind,
      "aria-labelledby": id,
      oncancel: (event) => {
        if (!closable) event.preventDefault();
      },
      onclick: (event) => {
        if (closable && event.target === element) close();
      },
      onclose: () => {
        element.remove();
        if (before?.isConnected) before.focus();
        onClose();
      },
    },
    h(
      "div",
      { class: "dialog-box" },
      h(
        "header",
        { class: "dialog-head" },
        h("h2", { id }, title),
        closable && h("button", { type: "button", class: "quiet close", "aria-label": "Close", onclick: close }, "×"),
      ),
      body,
    ),
  );
  document.body.append(element);
  element.showModal();
  return { close, element };
}
