// Renders what a Model Context Protocol tool returns as the text that a model is told.
import type { CallToolResult } from "@modelcontextprotocol/sdk/types.js";

type Content = CallToolResult["content"][number];

/**
 * The result as text: texts as they are, structured content as JSON where no text says it, and
 * what is neither by a line that says what it is, because a tool message is text.
 */
export function readableResult({ content, structuredContent }: CallToolResult): string {
  const parts = content.map(readable);
  if (structuredContent && !content.some(({ type }) => type === "text")) {
    parts.push(JSON.stringify(structuredContent));
  }
  return parts.join("\n");
}

function readable(content: Content): string {
  switch (content.type) {
    case "text":
      return content.text;
    case "image":
    case "audio":
      return `[${content.type}: ${content.mimeType}, ${byteLength(content.data)} bytes]`;
    case "resource_link":
      return `[resource: ${content.name}, ${content.uri}]`;
    case "resource": {
      const { resource } = content;
      if ("text" in resource) return resource.text;
      const type = resource.mimeType ?? "unknown type";
      return `[resource: ${resource.uri}, ${type}, ${byteLength(resource.blob)} bytes]`;
    }
  }
}

/** How many bytes a base64 text stands for. */
function byteLength(base64: string): number {
  return Buffer.byteLength(base64, "base64");
}
