// The model of the soak's sessions.

/** Its id. */
export const SOAK_MODEL = "soak";
