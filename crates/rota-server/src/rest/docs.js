"use strict";

const make = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children.filter((child) => child !== undefined && child !== null));
  return node;
};

const nameOf = (ref) => ref.split("/").pop();

const typeOf = (schema) => {
  if (!schema) return "";
  if (schema.$ref) return nameOf(schema.$ref);
  const variants = schema.oneOf ?? schema.anyOf;
  if (variants) return variants.map(typeOf).filter((type) => type !== "null").join(" | ");
  const types = [schema.type ?? "any"].flat().filter((type) => type !== "null");
  if (types.includes("array")) return `${typeOf(schema.items)}[]`;
  return types.join(" | ") + (schema.format ? ` (${schema.format})` : "");
};

const limitsOf = (schema) => {
  const named = { minimum: "≥", maximum: "≤", minLength: "length ≥", maxLength: "length ≤", maxItems: "items ≤" };
  return Object.entries(named)
    .filter(([key]) => schema[key] !== undefined)
    .map(([key, sign]) => `${sign} ${schema[key]}`)
    .concat(schema.enum ? [schema.enum.join(", ")] : [])
    .join("; ");
};

const text = (markdown) => (markdown ?? "").replaceAll("`", "");

const fields = (schema) => {
  const needed = new Set(schema.required ?? []);
  const rows = Object.entries(schema.properties ?? {}).map(([name, field]) =>
    make("tr", {},
      make("td", {}, name + (needed.has(name) ? " *" : "")),
      make("td", {}, typeOf(field)),
      make("td", {}, [text(field.description), limitsOf(field)].filter(Boolean).join(" "))));
  return make("table", {}, ...rows);
};

const parameters = (list) => make("table", {}, ...list.map((one) =>
  make("tr", {},
    make("td", {}, one.name + (one.required ? " *" : "")),
    make("td", {}, `${one.in}: ${typeOf(one.schema)}`),
    make("td", {}, [text(one.description), limitsOf(one.schema ?? {})].filter(Boolean).join(" ")))));

const responses = (answers) => make("table", {}, ...Object.entries(answers).map(([status, answer]) => {
  const schema = Object.values(answer.content ?? {})[0]?.schema;
  return make("tr", {}, make("td", {}, status), make("td", {}, typeOf(schema)), make("td", {}, answer.description));
}));

const operation = (verb, path, one) => {
  const body = Object.values(one.requestBody?.content ?? {})[0]?.schema;
  const parts = [make("p", {}, text(one.description ?? one.summary))];
  if (one.parameters?.length) parts.push(make("h4", {}, "Parameters"), parameters(one.parameters));
  if (body) parts.push(make("h4", {}, "Body: "), make("a", { href: `#schema-${typeOf(body)}` }, typeOf(body)));
  parts.push(make("h4", {}, "Answers"), responses(one.responses));
  return make("section", { id: one.operationId + verb },
    make("h3", {}, make("span", { class: `verb ${verb}` }, verb), path),
    make("div", {}, ...parts));
};

const show = (contract) => {
  const main = document.getElementById("main");
  const nav = document.getElementById("nav");
  main.replaceChildren(
    make("h1", {}, `${contract.info.title} API ${contract.info.version}`),
    make("p", {}, text(contract.info.description)),
    make("p", {}, "The same as ", make("a", { href: "/openapi.json" }, "OpenAPI 3.1"),
      "; gRPC has reflection on this port."));
  const groups = new Map();
  for (const [path, item] of Object.entries(contract.paths)) {
    for (const verb of ["get", "post", "put", "patch", "delete"]) {
      if (!item[verb]) continue;
      const group = item[verb].tags?.[0] ?? "other";
      groups.set(group, [...(groups.get(group) ?? []), [verb, path, item[verb]]]);
    }
  }
  for (const [group, operations] of groups) {
    nav.append(make("h2", {}, group));
    main.append(make("h2", {}, group[0].toUpperCase() + group.slice(1)));
    for (const [verb, path, one] of operations) {
      nav.append(make("a", { href: `#${one.operationId}${verb}`, title: path },
        make("span", { class: `verb ${verb}` }, verb), path));
      main.append(operation(verb, path, one));
    }
  }
  main.append(make("h2", {}, "Shapes"));
  for (const [name, schema] of Object.entries(contract.components?.schemas ?? {})) {
    const words = schema.enum ?? schema.oneOf?.flatMap((one) => one.enum ?? (one.const ? [one.const] : []));
    main.append(make("section", { id: `schema-${name}` },
      make("h3", {}, name),
      make("div", {}, make("p", {}, text(schema.description)),
        words?.length ? make("p", {}, words.join(", ")) : fields(schema))));
  }
};

fetch("/openapi.json")
  .then((answer) => answer.json())
  .then(show)
  .catch((error) => document.getElementById("main").append(make("p", {}, `Failed: ${error}`)));
