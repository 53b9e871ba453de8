// Says where the project's own files (migrations, package.json) are, from source and from dist/.
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** The absolute path of the directory that holds AgentStore's package.json. */
export const projectRoot: string = findProjectRoot(dirname(fileURLToPath(import.meta.url)));

function findProjectRoot(start: string): string {
  for (let directory = start; ; directory = dirname(directory)) {
    const manifest = join(directory, "package.json");
    if (existsSync(manifest)) {
      const { name } = JSON.parse(readFileSync(manifest, "utf8")) as { name?: string };
      if (name === "agentstore") return directory;
    }
    if (directory === dirname(directory)) {
      throw new Error(`No package.json named "agentstore" above ${start}: incomplete installation`);
    }
  }
}
