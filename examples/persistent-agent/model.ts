// Chooses who plays the assistant: a real model where there is an API key, otherwise a script.
import type { ChatFunction } from "@agentstore/client/agent";
import { scriptedModel } from "./scripted-model.js";

/** Who plays the assistant. */
export interface Model {
  /** The name that the store keeps sessions under. */
  id: string;
  /** The same for people. */
  description: string;
  chat: ChatFunction;
}

/** OPENAI_API_KEY chooses a real model, OPENAI_MODEL which one, OPENAI_BASE_URL of whom. */
export async function chooseModel(): Promise<Model> {
  if (!process.env["OPENAI_API_KEY"]) {
    return {
      id: "scripted",
      description: "a script with a few fixed rules, no AI; set OPENAI_API_KEY for a real one",
      chat: scriptedModel,
    };
  }
  const { openAiChat } = await import("@agentstore/client/agent/openai");
  const id = process.env["OPENAI_MODEL"] || "gpt-4o-mini";
  return { id, description: id, chat: openAiChat({ model: id }) };
}
