// A Model Context Protocol server over stdio, with the tools of the play market.
//
//     node market-server.js PORTFOLIO.json
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StdioServerTransport } from "@modelcontextprotocol/sdk/server/stdio.js";
import { z } from "zod";
import { COINS, Market } from "./market.js";

const [file] = process.argv.slice(2);
if (file === undefined) throw new Error("usage: market-server.js PORTFOLIO.json");

const market = new Market(file);
const server = new McpServer({ name: "play-market", version: "1.0.0" });
const coin = z.enum(COINS).describe("the coin");

server.registerTool(
  "get_price",
  {
    description: "Tells the current price of a coin in USD.",
    inputSchema: { coin },
    annotations: { readOnlyHint: true },
  },
  ({ coin }) => json({ coin, price: market.quote(coin) }),
);

server.registerTool(
  "buy",
  {
    description: "Buys an amount of a coin at the current price, with the portfolio's cash.",
    inputSchema: { coin, amount: z.number().positive().describe("how much of the coin") },
    annotations: { readOnlyHint: false, idempotentHint: false },
  },
  ({ coin, amount }) => json({ coin, amount, ...market.buy(coin, amount) }),
);

server.registerTool(
  "get_portfolio",
  {
    description: "Tells what the portfolio holds: cash in USD and amounts of coins.",
    annotations: { readOnlyHint: true },
  },
  () => {
    const { cash, holdings } = market.portfolio();
    return json({ cash, holdings });
  },
);

await server.connect(new StdioServerTransport());

function json(value: unknown): { content: { type: "text"; text: string }[] } {
  return { content: [{ type: "text", text: JSON.stringify(value) }] };
}
