// The review section, which the server renders: its buttons (look again, review, copy), and its updates.
(() => {
  async function act(button) {
    const { again, decides, order } = button.dataset;
    if (again) await window.chip.lookAgain(again, decides === "1");
    else if (order) await window.chip.chooseOrder(order);
    else return copy(button);
    document.querySelector("#desk").scrollIntoView({ block: "start" });
  }

  async function copy(button) {
    const code = button.parentElement.querySelector("code");
    getSelection().selectAllChildren(code);
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Press Ctrl+C"; // where the page comes by plain HTTP from another machine
    }
  }

  // A section that is shown follows the decisions given at the desk
  document.addEventListener("chip-decision", () => {
    if (document.querySelector("#review .review")) document.querySelector("#review-count").click();
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("#review [data-again], #review [data-order], #review [data-copy]");
    if (button) act(button).catch((error) => (button.textContent = error.message));
  });
})();
