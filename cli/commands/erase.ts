// `agentstore erase`: removes all that belongs to one person.
import { Command } from "commander";
import type { ErasureReceipt } from "../../client/index.js";
import { confirm } from "../confirm.js";
import { type PrintOptions, required, withJsonOption, withStoreOptions } from "../options.js";
import { write, writeJson } from "../output.js";

interface EraseFlags extends PrintOptions {
  yes?: boolean;
}

/** How long the server may take for one call; a little more for the answer. */
const CALL_MS = 65_000;

/** Defines the command. */
export function eraseCommand(): Command {
  const command = new Command("erase")
    .summary("remove all that belongs to one person, for good")
    .description(
      "Removes the sessions of an owner with all that belongs to them, and what forks of other " +
        "people still have of them. Prints a receipt. When it is cut short, run it again.",
    )
    .argument("<owner>", "the owner_id of the sessions", required)
    .option("-y, --yes", "do not ask; needed where there is no terminal to ask on");
  return withStoreOptions(withJsonOption(command, "the receipt as one JSON document"))
    .addHelpText(
      "after",
      `
Examples:
  agentstore erase alice@example.com
  agentstore erase alice@example.com --yes --json >> receipts.jsonl

Environment:
  AGENTSTORE_URL          as --url
  AGENTSTORE_TOKEN        as --token; one that the server's token file marks with admin`,
    )
    .action(async (owner: string, flags: EraseFlags) => {
      if (!flags.yes) await confirm(`Erase everything of the owner ${JSON.stringify(owner)}?`);
      const { withStore } = await import("../connect.js");
      await withStore(flags, async (store) => {
        const receipt = await store.eraseOwner(owner, { timeoutMs: CALL_MS });
        if (flags.json) await writeJson(receipt);
        else await write(lines(receipt));
      });
    });
}

function lines(receipt: ErasureReceipt): string {
  const facts: [string, bigint][] = [
    ["sessions removed", receipt.sessions],
    ["messages removed", receipt.messages],
    ["earlier versions", receipt.messageVersions],
    ["snapshots", receipt.snapshots],
    ["states", receipt.states],
    ["kept answers", receipt.keptAnswers],
    ["forks of others", receipt.forks],
    ["messages emptied there", receipt.emptiedMessages],
  ];
  return facts.map(([name, count]) => `${name.padEnd(24)}${count.toLocaleString("en")}\n`).join("");
}
