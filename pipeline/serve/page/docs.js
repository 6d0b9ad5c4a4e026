// lists what openapi.json describes
const add = (parent, name, text = "") => {
  const element = document.createElement(name);
  element.textContent = text;
  parent.append(element);
  return element;
};
const described = await (await fetch("openapi.json")).json();
const resolve = (schema) => (schema && schema.$ref ? described.components.schemas[schema.$ref.split("/").pop()] : schema);
const kind = (schema) => {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return schema.anyOf.map(kind).join(" or ");
  if (schema.enum) return schema.enum.join(", ");
  if (schema.type === "array") return `list of ${kind(schema.items) || "values"}`;
  return schema.type || "";
};
const routes = document.getElementById("routes");
for (const [path, methods] of Object.entries(described.paths)) {
  for (const [method, route] of Object.entries(methods)) {
    add(routes, "dt", `${method.toUpperCase()} ${path}`);
    const about = add(routes, "dd");
    for (const part of (route.description || route.summary || "").split("\n\n")) add(about, "p", part);
    if (route.parameters) {
      const list = add(about, "ul");
      for (const one of route.parameters) {
        const item = add(list, "li");
        add(item, "code", one.name);
        item.append(` (${kind(one.schema)}${one.required ? ", needed" : ""})${one.description ? `: ${one.description}` : ""}`);
      }
    }
    for (const [form, content] of Object.entries(route.requestBody?.content || {})) {
      const fields = Object.entries(resolve(content.schema)?.properties || {});
      add(about, "p", `Body, ${form}: ${fields.map(([name, schema]) => `${name} (${kind(schema)})`).join(", ")}`);
    }
    const answer = resolve(route.responses?.["200"]?.content?.["application/json"]?.schema);
    if (answer?.properties) add(about, "p", `Answer: ${Object.keys(answer.properties).join(", ")}`);
  }
}
