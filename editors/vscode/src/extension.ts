// Starts `vaelint server` and lets it speak: all that is shown comes from there.

import * as vscode from "vscode";
import { LanguageClient, LanguageClientOptions, ServerOptions } from "vscode-languageclient/node";

let client: LanguageClient | undefined;

/** What the Python extension tells of its interpreter (its published API, as far as it is needed here). */
interface PythonApi {
  readonly environments: {
    getActiveEnvironmentPath(resource?: vscode.Uri): { readonly path: string };
    readonly onDidChangeActiveEnvironmentPath: vscode.Event<unknown>;
  };
}

async function python(): Promise<PythonApi | undefined> {
  const extension = vscode.extensions.getExtension<PythonApi>("ms-python.python");
  return extension && (extension.isActive ? extension.exports : extension.activate());
}

/** The command of the settings, else the chosen interpreter's vaelint, else the first on the path. */
async function command(): Promise<string[]> {
  const said = vscode.workspace.getConfiguration("vaelint").get<string[]>("command", []);
  if (said.length > 0) {
    return said;
  }
  const folder = vscode.workspace.workspaceFolders?.[0]?.uri;
  const interpreter = (await python())?.environments.getActiveEnvironmentPath(folder).path;
  // A folder stands for an environment that has no interpreter yet.
  return interpreter && /python[\d.]*(\.exe)?$/.test(interpreter) ? [interpreter, "-m", "vaelint", "server"] : ["vaelint", "server"];
}

async function start(output: vscode.OutputChannel): Promise<void> {
  const [program, ...args] = await command();
  const server: ServerOptions = { command: program, args };
  const options: LanguageClientOptions = {
    documentSelector: [
      { scheme: "file", language: "python" },
      { scheme: "file", pattern: "**/{pyproject,vaelint}.toml" },
    ],
    initializationOptions: { verifyFixes: vscode.workspace.getConfiguration("vaelint").get<boolean>("verifyFixes", true) },
    outputChannel: output,
  };
  client = new LanguageClient("vaelint", "vaelint", server, options);
  try {
    await client.start();
  } catch (error) {
    client = undefined;
    output.appendLine(String(error));
    const text = `vaelint does not start with ${[program, ...args].join(" ")}. In the environment of your model: pip install "vaelint[server]". Where that is not the chosen interpreter's, name its command in the setting vaelint.command.`;
    const chosen = await vscode.window.showErrorMessage(text, "Open setting", "Show output");
    if (chosen === "Open setting") {
      // Of the workspace where there is one: in a remote window the user's own settings do not list it.
      const place = vscode.workspace.workspaceFolders ? "openWorkspaceSettings" : "openSettings";
      await vscode.commands.executeCommand(`workbench.action.${place}`, { query: "vaelint.command" });
    } else if (chosen) {
      output.show();
    }
  }
}

async function stop(): Promise<void> {
  const running = client;
  client = undefined;
  await running?.stop();
}

export async function activate(context: vscode.ExtensionContext): Promise<void> {
  const output = vscode.window.createOutputChannel("vaelint");
  let turn: Promise<void> = Promise.resolve();
  const restart = () => (turn = turn.then(stop).then(() => start(output))); // one after the other, however often it is asked for
  context.subscriptions.push(
    output,
    vscode.commands.registerCommand("vaelint.restart", restart),
    vscode.workspace.onDidChangeConfiguration((e) => e.affectsConfiguration("vaelint") && restart()),
  );
  const api = await python();
  if (api) {
    context.subscriptions.push(api.environments.onDidChangeActiveEnvironmentPath(restart));
  }
  await restart();
}

export function deactivate(): Promise<void> {
  return stop();
}
