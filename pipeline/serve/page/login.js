if (location.search === "?wrong") {
  const token = document.getElementById("token");
  document.getElementById("wrong").hidden = false;
  token.setAttribute("aria-invalid", "true");
  token.setAttribute("aria-describedby", "wrong"); // a description is read where it is hidden, too
}
