// Gradio's sign-in page empties both fields after a wrong password. This puts the user name back.
(() => {
  const ask = window.fetch;
  window.fetch = async (...request) => {
    const name = document.querySelector('input:not([type="password"])');
    const typed = name?.value;
    const answer = await ask(...request);
    if (answer.status === 400 && typed && document.querySelector('input[type="password"]'))
      setTimeout(() => {
        name.value = typed;
        name.dispatchEvent(new Event("input", { bubbles: true })); // gradio sends what it has heard of
        document.querySelector('input[type="password"]').focus();
      });
    return answer;
  };
})();
