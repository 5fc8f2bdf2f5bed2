/**
 * Model providers allow `[a-zA-Z0-9_-]` in tool names, and our actions have dots: `ticket.read` is `ticket__read` to a model.
 * `defineAction` refuses the names that would not come back, so no two actions have one tool name.
 */
export const toolNameOfAction = (action: string): string => action.replaceAll('.', '__');

/** Undoes {@link toolNameOfAction}; any other name comes back as it is and matches no action. */
export const actionOfToolName = (toolName: string): string => toolName.replaceAll('__', '.');
