// Starts Swagger UI on the contract of this server. The page loads nothing from elsewhere.
"use strict";

/** Swagger UI filters by tag only. This finds words in everything that a reader knows of an operation. */
const search = () => ({
  fn: {
    opsFilter: (tagged, phrase) => {
      const words = phrase.toLowerCase().split(/\s+/).filter(Boolean);
      const found = (operation) => {
        const inner = operation.get("operation");
        const known = ["operationId", "summary", "description"].map((key) => inner.get(key) || "");
        const text = [operation.get("path"), operation.get("method"), ...known].join(" ").toLowerCase();
        return words.every((word) => text.includes(word));
      };
      return tagged
        .map((tag, name) => {
          if (words.every((word) => name.toLowerCase().includes(word))) return tag;
          return tag.set("operations", tag.get("operations").filter(found));
        })
        .filter((tag) => tag.get("operations").size > 0);
    },
  },
  components: {
    FilterContainer: ({ layoutSelectors, layoutActions, getComponent }) => {
      const filter = layoutSelectors.currentFilter();
      const Column = getComponent("Col");
      const create = window.ui.React.createElement;
      const input = create("input", {
        className: "operation-filter-input",
        type: "search",
        placeholder: "Search operations, such as: retry task",
        "aria-label": "Search operations",
        value: typeof filter === "string" ? filter : "",
        onChange: (event) => layoutActions.updateFilter(event.target.value),
      });
      return create("div", { className: "filter-container" }, create(Column, { className: "filter wrapper", mobile: 12 }, input));
    },
  },
});

/** Makes React available to the component above. */
const react = (system) => {
  window.ui = { React: system.React };
  return {};
};

SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#app",
  plugins: [react, search],
  deepLinking: true,
  displayRequestDuration: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  filter: true,
  // The standard validator is a service on the internet.
  validatorUrl: null,
});
