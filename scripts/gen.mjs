// `npm run gen`: makes gen/ anew.
import { generate } from "./generate.mjs";
import { fail, root } from "./run.mjs";

if (!generate(root)) fail("proto/ does not generate.");
