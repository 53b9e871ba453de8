// Plays the assistant where there is no API key: no language model, but a few rules that read the
// history and the tools' results for real and decide from them.
import type { OpenAiMessage } from "@agentstore/client";
import type { ChatFunction } from "@agentstore/client/agent";
import { type Action, actionsIn, contentOf } from "./actions.js";
import { dollars } from "./screen.js";

/** What a rule knows: the question, what was done before it, and what was done for it so far. */
interface Situation {
  /** The question's parts that the rule's pattern has captured. */
  words: string[];
  before: Action[];
  now: Action[];
}

type Decision = { answer: string } | { calls: { tool: string; args: object }[] };

const RULES: [pattern: RegExp, decide: (situation: Situation) => Decision][] = [
  [/check (\w+) price and if it's below \$([\d,]+), buy ([\d.]+)/i, buyBelow],
  [/what did you do last/i, recall],
  [/what is my portfolio worth/i, appraise],
  [/compare (\w+) with (\w+)/i, compare],
];

/** A chat function, as `openAiChat` makes one for a real model. */
export const scriptedModel: ChatFunction = async ({ messages }) => {
  const asked = messages.findLastIndex(({ role }) => role === "user");
  const decision = decide(
    contentOf(messages[asked]),
    actionsIn(messages.slice(0, asked)),
    actionsIn(messages.slice(asked)),
  );
  return { message: assistantMessage(decision, actionsIn(messages).length) };
};

function decide(question: string, before: Action[], now: Action[]): Decision {
  const failed = now.find(({ result }) => result === undefined);
  if (failed) return { answer: `I stop here: ${failed.tool} said "${failed.text}"` };
  for (const [pattern, rule] of RULES) {
    const found = pattern.exec(question);
    if (found) return rule({ words: found.slice(1), before, now });
  }
  return { answer: "I am a script that knows four questions. Set OPENAI_API_KEY to talk freely." };
}

function buyBelow({ words, now }: Situation): Decision {
  const [coin = "", limit = "", amount = ""] = words;
  const quote = now.find(({ tool }) => tool === "get_price");
  if (!quote) return { calls: [{ tool: "get_price", args: { coin } }] };
  const price = Number(quote.result?.["price"]);
  const shown = `${coin} is at ${dollars(price)}`;
  const bound = Number(limit.replaceAll(",", ""));
  if (price >= bound) return { answer: `${shown}, not below ${dollars(bound)}: I bought nothing.` };
  const trade = now.find(({ tool }) => tool === "buy");
  if (!trade) return { calls: [{ tool: "buy", args: { coin, amount: Number(amount) } }] };
  const paid = dollars(trade.result?.["paid"]);
  const cash = dollars(trade.result?.["cash"]);
  return {
    answer: `${shown}, below ${dollars(bound)}: I bought ${amount} for ${paid}. Cash left: ${cash}.`,
  };
}

function recall({ before }: Situation): Decision {
  const [last, previous] = before.toReversed();
  if (!last) return { answer: "Nothing yet: this conversation has no action of mine." };
  const earlier = previous ? ` Before that, I ${told(previous)}.` : "";
  return { answer: `Last, I ${told(last)}.${earlier}` };
}

function told({ tool, args, result, text }: Action): string {
  const coin = String(args["coin"]);
  if (result === undefined) return `called ${tool}, which said "${text}"`;
  if (tool === "get_price") return `looked up ${coin}, at ${dollars(result["price"])}`;
  if (tool !== "buy") return `called ${tool}`;
  return `bought ${String(args["amount"])} ${coin} for ${dollars(result["paid"])}`;
}

function appraise({ now }: Situation): Decision {
  const portfolio = now.find(({ tool }) => tool === "get_portfolio")?.result;
  const quote = now.find(({ tool }) => tool === "get_price")?.result;
  if (!portfolio || !quote) {
    return {
      calls: [
        { tool: "get_portfolio", args: {} },
        { tool: "get_price", args: { coin: "BTC" } },
      ],
    };
  }
  const { BTC = 0 } = portfolio["holdings"] as { BTC?: number };
  const cash = Number(portfolio["cash"]);
  const worth = BTC * Number(quote["price"]);
  return {
    answer:
      `You hold ${BTC} BTC, worth ${dollars(worth)}, and ${dollars(cash)} in cash: ` +
      `${dollars(worth + cash)} in all.`,
  };
}

function compare({ words, now }: Situation): Decision {
  const [first = "", second = ""] = words;
  const price = (coin: string) => now.find(({ args }) => args["coin"] === coin)?.result?.["price"];
  const [a, b] = [price(first), price(second)];
  if (a === undefined || b === undefined) {
    return { calls: [first, second].map((coin) => ({ tool: "get_price", args: { coin } })) };
  }
  const ratio = (Number(a) / Number(b)).toFixed(2);
  return {
    answer: `${first} is at ${dollars(a)}, ${second} at ${dollars(b)}: 1 ${first} is ${ratio} ${second}.`,
  };
}

function assistantMessage(decision: Decision, callsSoFar: number): OpenAiMessage {
  if ("answer" in decision) return { role: "assistant", content: decision.answer };
  return {
    role: "assistant",
    content: null,
    tool_calls: decision.calls.map(({ tool, args }, index) => ({
      id: `call_${callsSoFar + index + 1}`,
      type: "function",
      function: { name: tool, arguments: JSON.stringify(args) },
    })),
  };
}
