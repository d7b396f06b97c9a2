// Says in words why a file waits, was refused or failed.
import { alternatives, bytes, typeName } from './format.js';
import { maybe, t } from './words.js';

const ENGINES = { kafka: 'Kafka', s3: 'S3', cassandra: 'Cassandra' };

export const engineName = (engine) => ENGINES[engine] ?? engine;

export const typesInWords = (limits) => alternatives(limits.content_types.map(typeName));

/** The reason of a Problem, or of the `error` of a status document (`type`, `detail`). `more` are further parameters. */
export function reason({ code, type, detail }, more) {
  const key = (code ?? type).replace('body_too_large', 'file_too_large');
  const parameters = { engine: ENGINES[detail.split(' ')[0]] ?? t('an_engine'), detail, ...more };
  return maybe(`error_${key}`, parameters) ?? t('error_other', parameters);
}

export function entryReason({ size, kind, problem }, limits) {
  if (problem.code !== 'wrong_type') return reason(problem, { size: bytes(size), limit: bytes(limits.file_bytes) });
  const parameters = { types: typesInWords(limits), found: kind, name: problem.detail };
  if (kind !== 'text') return t(kind === 'unknown' ? 'wrong_type' : 'wrong_type_named', parameters);
  // The detail is the extension of the name, if that of a picture.
  return t(problem.detail ? 'wrong_type_disguised' : 'wrong_type_named', { ...parameters, found: t('kind_text') });
}
