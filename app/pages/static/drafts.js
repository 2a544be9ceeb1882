// What a person has written and the server has not confirmed, kept in this browser until it has.

const NEW = "new";

const place = (kind, conversation) => `twofold.${kind}.${conversation ?? NEW}`;

/** A full or forbidden store costs the safety copy, never the chat. */
function stored(action) {
  try {
    return action();
  } catch {
    return null;
  }
}

export const draftOf = (conversation) =>
  stored(() => localStorage.getItem(place("draft", conversation))) ?? "";

export function keepDraft(conversation, text) {
  stored(() => {
    if (text === "") localStorage.removeItem(place("draft", conversation));
    else localStorage.setItem(place("draft", conversation), text);
  });
}

/** Messages sent but not acknowledged: [{text, key}]; the key makes sending again harmless. */
export function unsentOf(conversation) {
  const text = stored(() => localStorage.getItem(place("unsent", conversation)));
  return stored(() => JSON.parse(text)) ?? [];
}

export function keepUnsent(conversation, message) {
  const others = unsentOf(conversation).filter((one) => one.key !== message.key);
  storeUnsent(conversation, [...others, { text: message.text, key: message.key }]);
}

export function forgetUnsent(conversation, key) {
  storeUnsent(conversation, unsentOf(conversation).filter((one) => one.key !== key));
}

function storeUnsent(conversation, messages) {
  stored(() => {
    if (messages.length === 0) localStorage.removeItem(place("unsent", conversation));
    else localStorage.setItem(place("unsent", conversation), JSON.stringify(messages));
  });
}

/** Once a conversation is deleted, this browser keeps nothing of it either. */
export function forgetConversation(conversation) {
  stored(() => {
    for (const kind of ["draft", "unsent"]) localStorage.removeItem(place(kind, conversation));
  });
}

/** On signing out, nothing of this person stays behind. */
export function forgetEverything() {
  stored(() => {
    for (const name of Object.keys(localStorage)) {
      if (name.startsWith("twofold.")) localStorage.removeItem(name);
    }
  });
}
