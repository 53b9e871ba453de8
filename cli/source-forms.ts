// How a session remembers the form that its conversation was imported from.

/** The payloadType of a message whose payload is an element of a ShareGPT conversation. */
export const SHAREGPT_MESSAGE = "sharegpt.message";

/** The member that holds a conversation's messages; `array`: the line is the array itself. */
export type SourceForm = "messages" | "conversations" | "array";

/** The keys of a session's metadata that import writes and `show --format source` reads. */
export const metadataKeys = {
  /** The SourceForm. */
  form: "source_form",
  /** The line's other members, parsed. */
  source: "source",
  /** Their exact JSON text, where the parsed members do not say all of it. */
  sourceJson: "source_json",
} as const;
