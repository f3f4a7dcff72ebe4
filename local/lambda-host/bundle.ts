import { rmSync } from 'node:fs'
import { mkdir, mkdtemp, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type BuildOptions, build, type Metafile } from 'esbuild'
import type { Deployment } from '../deployment.ts'

/** Files with the functions as they would be deployed. */
export interface Bundle {
  /** The module of each function, by its name. */
  modules: Record<string, string>
  /** What a container's thread runs. */
  runtime: string
}

/** What is in a function's module: the bytes that each source file has in it. */
export type Contents = Record<string, number>

/**
 * Bundles the functions once for all containers, with the options of serverless.yml, but for the Node that runs here.
 * @param root the project's directory, to which the functions' modules are relative
 * @returns the files, in a temporary directory that `close` removes
 * @throws {Error} esbuild's, naming the file and line that does not build
 */
export async function bundleFunctions(
  { bundling, functions }: Deployment,
  root: URL,
): Promise<Bundle & { contents: Record<string, Contents>; close: () => Promise<void> }> {
  const deployed = await mkdtemp(join(tmpdir(), 'event-indexer-functions-'))
  // As deep as a handler is in a zip: from there a function finds the files beside its bundle.
  const directory = join(deployed, 'src', 'functions')
  const removeNow = () => rmSync(deployed, { recursive: true, force: true })
  process.once('exit', removeNow)
  const close = async () => {
    process.off('exit', removeNow)
    await rm(deployed, { recursive: true, force: true })
  }

  const options = Object.entries(bundling).filter(([name]) => !PLUGIN_OPTIONS.includes(name))
  const { outputFileExtension = '.js', exclude = [], external = [] } = bundling
  const common: BuildOptions = {
    absWorkingDir: fileURLToPath(root),
    outdir: directory,
    target: `node${process.versions.node}`,
    logLevel: 'silent', // what goes wrong is thrown
  }
  let outputs: Metafile['outputs']
  try {
    for (const file of functions.flatMap(({ files }) => files)) {
      await mkdir(dirname(join(deployed, file)), { recursive: true })
      await symlink(fileURLToPath(new URL(file, root)), join(deployed, file))
    }
    const built = await build({
      ...(Object.fromEntries(options) as BuildOptions),
      ...common,
      external: [exclude, external].flat().map(String),
      outExtension: { '.js': String(outputFileExtension) },
      entryPoints: Object.fromEntries(functions.map(({ name, module }) => [name, `./${module}`])),
      metafile: true,
    })
    outputs = built.metafile.outputs
    await build({
      ...common,
      bundle: true,
      platform: 'node',
      format: 'esm',
      outExtension: { '.js': '.mjs' },
      entryPoints: { runtime: fileURLToPath(new URL('runtime.ts', import.meta.url)) },
    })
  } catch (error) {
    await close()
    throw error
  }
  return {
    modules: Object.fromEntries(
      functions.map(({ name }) => [name, join(directory, `${name}${outputFileExtension}`)]),
    ),
    runtime: join(directory, 'runtime.mjs'),
    contents: Object.fromEntries(functions.map(({ name }) => [name, contentsOf(outputs, name)])),
    close,
  }
}

function contentsOf(outputs: Metafile['outputs'], name: string): Contents {
  const output = Object.entries(outputs).find(
    ([file]) => basename(file).replace(/\.[^.]+$/, '') === name,
  )?.[1]
  return Object.fromEntries(
    Object.entries(output?.inputs ?? {}).map(([file, { bytesInOutput }]) => [file, bytesInOutput]),
  )
}

/** What stands beside esbuild's options in serverless.yml and is serverless-esbuild's own. */
const PLUGIN_OPTIONS = [
  'concurrency',
  'exclude',
  'installExtraArgs',
  'keepOutputDirectory',
  'nativeZip',
  'outputBuildFolder',
  'outputFileExtension',
  'outputWorkFolder',
  'packagePath',
  'packager',
  'packagerOptions',
  'skipRebuild',
  'watch',
  'zipConcurrency',
]
