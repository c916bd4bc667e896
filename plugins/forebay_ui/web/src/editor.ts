// The SQL editor in place of the plain field, which it keeps up to date: the form never knows the difference.
import { autocompletion, closeBrackets, closeBracketsKeymap, completionKeymap, type Completion, type CompletionContext, type CompletionResult } from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap } from "@codemirror/commands";
import { keywordCompletionSource, schemaCompletionSource, sql, SQLDialect } from "@codemirror/lang-sql";
import { bracketMatching, HighlightStyle, indentOnInput, syntaxHighlighting } from "@codemirror/language";
import { setDiagnostics } from "@codemirror/lint";
import { highlightSelectionMatches, searchKeymap } from "@codemirror/search";
import { EditorState, Prec } from "@codemirror/state";
import { drawSelection, EditorView, highlightActiveLine, highlightSpecialChars, keymap, lineNumbers } from "@codemirror/view";
import { tags } from "@lezer/highlight";

interface Table { table: string; comment: string; columns: [string, string][] }
interface Names { tables: Table[]; more: boolean; namespaces: string[]; functions: string[] }
interface Mark { line: number; column: number; message: string }
interface Options { run: () => void; names: (begin: string) => Promise<Names> }
interface Editor {
  text(): string;
  selection(): string;
  insert(text: string): void;
  mark(marks: Mark[]): void;
  focus(): void;
}

const KEYWORDS = `select from where group by order having limit offset fetch first rows only with recursive as distinct all and or
  not in is null like escape between exists case when then else end cast try_cast join inner left right full outer cross on using
  union intersect except values unnest ordinality over partition range rows preceding following current row unbounded filter within
  grouping sets rollup cube asc desc nulls last interval extract true false array map at time zone lateral natural window
  current_date current_timestamp localtimestamp trim position substring`;
const TYPES = `boolean tinyint smallint integer int bigint real double decimal varchar char varbinary json date time timestamp array
  map row uuid`;

const trino = SQLDialect.define({
  keywords: KEYWORDS, types: TYPES, doubleDollarQuotedStrings: false, hashComments: false, slashComments: false,
  backslashEscapes: false, doubleQuotedStrings: false, identifierQuotes: '"', specialVar: ":", operatorChars: "*+-%<>!=&|/~",
});

const colours = HighlightStyle.define([
  { tag: tags.keyword, color: "var(--run)" },
  { tag: [tags.string, tags.special(tags.string)], color: "var(--ok)" },
  { tag: [tags.number, tags.bool, tags.null], color: "var(--warn)" },
  { tag: [tags.comment, tags.lineComment, tags.blockComment], color: "var(--dim)", fontStyle: "italic" },
  { tag: [tags.typeName, tags.special(tags.name)], color: "var(--brand)" },
]);

const look = EditorView.theme({
  "&": { color: "var(--ink)", backgroundColor: "var(--card)", fontSize: "13px", minHeight: "150px" },
  "&.cm-focused": { outline: "2px solid var(--brand)", outlineOffset: "-2px" },
  ".cm-scroller": { fontFamily: "var(--mono)", lineHeight: "1.55" },
  ".cm-content": { padding: "10px 0", caretColor: "var(--ink)" },
  ".cm-cursor": { borderLeftColor: "var(--ink)" },
  ".cm-gutters": { backgroundColor: "var(--card)", color: "var(--dim)", border: "none" },
  ".cm-activeLine, .cm-activeLineGutter": { backgroundColor: "transparent" },
  "&.cm-focused .cm-activeLine": { backgroundColor: "color-mix(in srgb, var(--code) 60%, transparent)" },
  "&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground": { backgroundColor: "color-mix(in srgb, var(--brand) 28%, transparent)" },
  ".cm-matchingBracket, &.cm-focused .cm-matchingBracket": { backgroundColor: "var(--brand-soft)", outline: "none" },
  ".cm-tooltip": { backgroundColor: "var(--card)", color: "var(--ink)", border: "1px solid var(--line)", borderRadius: "6px" },
  ".cm-tooltip.cm-tooltip-autocomplete > ul": { fontFamily: "var(--mono)", fontSize: "12.5px", maxHeight: "220px" },
  ".cm-tooltip-autocomplete ul li[aria-selected]": { backgroundColor: "var(--brand-soft)", color: "var(--ink)" },
  ".cm-completionDetail": { color: "var(--dim)", fontStyle: "normal" },
  ".cm-diagnostic-error": { borderLeftColor: "var(--bad)" },
  // Its own mark is a picture in the style sheet, which the page's policy refuses.
  ".cm-lintRange-error": { backgroundImage: "none", textDecoration: "underline wavy var(--bad)" },
  ".cm-panels": { backgroundColor: "var(--code)", color: "var(--ink)" },
});

/** Puts an editor in place of a field. Its styles live in a shadow root, where the page's policy allows them. */
function mount(area: HTMLTextAreaElement, options: Options): Editor {
  const host = document.createElement("div");
  host.className = "code";
  area.before(host);
  area.hidden = true;
  // A hidden field that is empty would stop the form without a word.
  area.required = false;
  const known = new Map<string, Table>();
  const schema: Record<string, Record<string, Completion[]>> = {};
  const learned = new Map<string, Promise<boolean>>();
  let functionNames: string[] = [];

  const view = new EditorView({
    root: host.attachShadow({ mode: "open" }),
    state: EditorState.create({
      doc: area.value,
      extensions: [
        Prec.highest(keymap.of([{ key: "Mod-Enter", run: () => (options.run(), true) }])),
        lineNumbers(), history(), drawSelection(), highlightSpecialChars(), indentOnInput(), bracketMatching(), closeBrackets(),
        highlightActiveLine(), highlightSelectionMatches(), syntaxHighlighting(colours), look,
        sql({ dialect: trino }),
        autocompletion({ override: [tables, columns, keywordCompletionSource(trino, true, keyword), functions], icons: false }),
        // Tab leaves the editor, as it leaves every field: a keyboard must find the way out.
        keymap.of([...closeBracketsKeymap, ...defaultKeymap, ...searchKeymap, ...historyKeymap, ...completionKeymap]),
        EditorView.contentAttributes.of({ "aria-label": "SQL", autocapitalize: "off", autocorrect: "off" }),
        // Over a selection Chromium itself would type with an inline style, which the page's policy refuses aloud.
        EditorView.domEventHandlers({
          beforeinput(event, on) {
            if (event.inputType !== "insertText" || !event.data || on.composing || on.state.selection.main.empty) return false;
            event.preventDefault();
            on.dispatch(on.state.replaceSelection(event.data), { userEvent: "input.type" });
            return true;
          },
        }),
        EditorView.updateListener.of((update) => {
          if (!update.docChanged) return;
          area.value = update.state.doc.toString();
          area.dispatchEvent(new Event("input"));
        }),
      ],
    }),
  });
  host.shadowRoot?.append(view.dom);

  void learn("");

  // Asks for the tables whose names begin so, unless all of them are known; answers whether there are more than are known.
  async function learn(begin: string): Promise<boolean> {
    for (let length = 0; length < begin.length; length++) {
      const shorter = learned.get(begin.slice(0, length));
      if (shorter && !(await shorter)) return false;
    }
    const asked = learned.get(begin) ?? options.names(begin).then(take, () => (learned.delete(begin), true));
    learned.set(begin, asked);
    return asked;
  }

  function take(found: Names): boolean {
    functionNames = found.functions;
    for (const namespace of found.namespaces) schema[namespace] ??= {};
    for (const each of found.tables) {
      const at = each.table.lastIndexOf(".");
      known.set(each.table, each);
      (schema[each.table.slice(0, at)] ??= {})[each.table.slice(at + 1)] = each.columns.map(([name, type]) => column(name, type));
    }
    return found.more;
  }

  // The tables that the text names, in full.
  async function named(text: string): Promise<Table[]> {
    await learn("");
    const names = new Set(text.toLowerCase().match(/\b[a-z_]\w*\.[a-z_]\w*/g) ?? []);
    await Promise.all([...names].filter((name) => name.slice(0, name.indexOf(".")) in schema).map(learn));
    return [...names].flatMap((name) => known.get(name) ?? []);
  }

  async function tables(context: CompletionContext): Promise<CompletionResult | null> {
    await named(context.state.doc.toString());
    const word = context.matchBefore(/\w+\.\w*/);
    const more = word !== null && word.text.slice(0, word.text.indexOf(".")).toLowerCase() in schema && (await learn(word.text.toLowerCase()));
    const found = await schemaCompletionSource({ dialect: trino, schema })(context);
    // Of very many tables these are the first ones: the next letter asks again.
    return found && more ? { ...found, validFor: undefined } : found;
  }

  // Columns without a table before them: those of the tables that the text names.
  async function columns(context: CompletionContext): Promise<CompletionResult | null> {
    const word = context.matchBefore(/\w+/);
    if (!word || context.state.sliceDoc(word.from - 1, word.from) === ".") return null;
    const found = new Map((await named(context.state.doc.toString())).flatMap((each) => each.columns).map(([name, type]) => [name, column(name, type)]));
    return { from: word.from, options: [...found.values()], validFor: /^\w*$/ };
  }

  function functions(context: CompletionContext): CompletionResult | null {
    const word = context.matchBefore(/\w+/);
    if (!word || context.state.sliceDoc(word.from - 1, word.from) === ".") return null;
    return { from: word.from, options: functionNames.map((label) => ({ label, apply: `${label}(`, type: "function", boost: -1 })), validFor: /^\w*$/ };
  }

  return {
    text: () => view.state.doc.toString(),
    selection: () => view.state.sliceDoc(view.state.selection.main.from, view.state.selection.main.to),
    insert: (text) => view.dispatch(view.state.replaceSelection(text)),
    focus: () => view.focus(),
    mark(marks) {
      const doc = view.state.doc;
      view.dispatch(setDiagnostics(view.state, marks.map(({ line, column: at, message }) => {
        const found = doc.line(Math.min(Math.max(line, 1), doc.lines));
        const from = Math.min(found.from + at - 1, found.to);
        const word = /^\w+/.exec(doc.sliceString(from, found.to))?.[0].length ?? 1;
        return { from, to: Math.min(from + word, doc.length), severity: "error", message };
      })));
    },
  };
}

function column(name: string, type: string): Completion {
  return { label: name, detail: type, type: "property", boost: 2 };
}

function keyword(label: string, type: string): Completion {
  return { label, type, boost: -2 };
}

declare global {
  var ForebayEditor: typeof mount | undefined;
}
globalThis.ForebayEditor = mount;
