// Chooses the system user that Postgres runs as, and says which directories that user can reach.
import { readFileSync, statSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { EmbeddedPostgresError } from "./embedded-error.js";

/** A system user other than the one that runs this process. */
export interface SystemUser {
  name: string;
  uid: number;
  gid: number;
}

const DEFAULT_DIRECTORY = "agentstore-data";
const ROOT_DEFAULT_DIRECTORY = "/var/lib/agentstore";

/**
 * Returns the user that Postgres has to run as, or undefined where it runs as the current user.
 * Postgres refuses to run as root; root therefore runs it as the owner of an existing cluster, else
 * as `postgres`, else as `nobody`.
 *
 * @param clusterDir the cluster's directory, which need not exist yet
 * @throws EmbeddedPostgresError when the machine has no such user
 */
export function postgresUser(clusterDir: string): SystemUser | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const owner = statSync(clusterDir, { throwIfNoEntry: false });
  if (owner !== undefined && owner.uid !== 0) {
    return { name: `uid ${owner.uid}`, uid: owner.uid, gid: owner.gid };
  }
  const users = systemUsers();
  const user = users.get("postgres") ?? users.get("nobody");
  if (user === undefined) {
    throw new EmbeddedPostgresError(
      "Postgres does not run as root, and /etc/passwd has neither a user `postgres` nor `nobody`. " +
        "Start the server as an ordinary user, or set DATABASE_URL.",
    );
  }
  return user;
}

function systemUsers(): Map<string, SystemUser> {
  const users = new Map<string, SystemUser>();
  for (const line of readFileSync("/etc/passwd", "utf8").split("\n")) {
    const entry = /^([^:]+):[^:]*:(\d+):(\d+):/.exec(line);
    if (entry === null) continue;
    const [, name = "", uid, gid] = entry;
    users.set(name, { name, uid: Number(uid), gid: Number(gid) });
  }
  return users;
}

/**
 * Returns the topmost directory on the way to `path` (itself included) that `user` may not pass
 * through, or undefined when the user reaches `path`. Directories that do not exist yet count as
 * passable.
 */
export function blockingDirectory(path: string, user: SystemUser): string | undefined {
  const parent = dirname(path);
  if (parent !== path) {
    const above = blockingDirectory(parent, user);
    if (above !== undefined) return above;
  }
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return undefined;
  const execute = stat.uid === user.uid ? 0o100 : stat.gid === user.gid ? 0o010 : 0o001;
  return stat.isDirectory() && (stat.mode & execute) === 0 ? path : undefined;
}

/**
 * Returns the absolute path of the data directory that is used when none is named:
 * `./agentstore-data`, or `/var/lib/agentstore` for root in a directory that the user whom Postgres
 * runs as cannot reach.
 */
export function defaultDataDir(): string {
  const local = resolve(DEFAULT_DIRECTORY);
  const user = postgresUser(join(local, "postgres"));
  if (user === undefined || blockingDirectory(dirname(local), user) === undefined) return local;
  return ROOT_DEFAULT_DIRECTORY;
}
