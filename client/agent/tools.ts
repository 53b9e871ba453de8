// What a tool is, and how it is described to a model.

/** A JSON schema, as an object. It is handed to the model as it is. */
export interface JsonSchema {
  readonly [keyword: string]: unknown;
}

/** What a tool learns about the call that it carries out. */
export interface ToolContext {
  /** Aborts when the call has taken too long, or the dialogue ends. */
  signal: AbortSignal;
  /** The id of the tool call, unique in its conversation: a key to make side effects repeatable. */
  callId: string;
}

/** Something that a model may call: a function of this process, or a tool of an MCP server. */
export interface Tool {
  /** How the model names it; most providers take 1 to 64 of `a-z A-Z 0-9 _ -`. */
  readonly name: string;
  /** What it does and when to use it, for the model. */
  readonly description?: string | undefined;
  /** The schema of its arguments, which are one object. */
  readonly inputSchema: JsonSchema;
  /**
   * Carries out a call.
   *
   * @param args the arguments, parsed: an object; it is not checked against the schema
   * @returns what the model is told
   * @throws any error: the model is told its message, and the dialogue goes on
   */
  call(args: Record<string, unknown>, context: ToolContext): Promise<string> | string;
}

/** A tool as a model is told of it, in OpenAI's form. */
export interface ToolDefinition {
  type: "function";
  function: { name: string; description?: string; parameters: JsonSchema };
}

/** Describes a tool to a model. */
export function toolDefinition({ name, description, inputSchema }: Tool): ToolDefinition {
  return {
    type: "function",
    function: {
      name,
      ...(description === undefined ? {} : { description }),
      parameters: inputSchema,
    },
  };
}

/**
 * The tools by their names.
 *
 * @throws TypeError when two have the same name, or one has none
 */
export function toolsByName(tools: readonly Tool[]): ReadonlyMap<string, Tool> {
  const byName = new Map<string, Tool>();
  for (const tool of tools) {
    if (typeof tool.name !== "string" || tool.name === "") {
      throw new TypeError("a tool needs a name");
    }
    if (byName.has(tool.name)) {
      throw new TypeError(
        `two tools are named ${JSON.stringify(tool.name)}; ` +
          "give one another name, as in { ...tool, name, call: tool.call }",
      );
    }
    byName.set(tool.name, tool);
  }
  return byName;
}
