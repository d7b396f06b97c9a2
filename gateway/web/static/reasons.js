// Says in words why a file waits, was refused or failed.
import { alternatives, bytes, typeName } from './format.js';
import { maybe, t } from './words.js';

const ENGINES = { kafka: 'Kafka', s3: 'S3', cassandra: 'Cassandra' };

export const engineName = (engine) => ENGINES[engine] ?? engine;

export const typesInWords = (limits) => alternatives(limits.content_types.map(typeName));

/** The reason of a Problem, or of the `error` of a status document (`type`, `detail`). */
export function reason(problem) {
  const code = (problem.code ?? problem.type).replace('body_too_large', 'file_too_large');
  const [engine] = problem.detail.split(' ');
  const parameters = { engine: ENGINES[engine] ?? t('an_engine'), detail: problem.detail };
  return maybe(`error_${code}`, parameters) ?? t('error_other', parameters);
}

export function entryReason(entry, limits) {
  const types = typesInWords(limits);
  switch (entry.problem.code) {
    case 'too_large':
      return t('too_large', { size: bytes(entry.size), limit: bytes(limits.file_bytes) });
    case 'shrink_failed':
      return t('shrink_failed');
    case 'lost':
      return t('entry_lost');
    case 'wrong_type':
      return wrongType(entry, types);
    default:
      return reason(entry.problem);
  }
}

function wrongType({ kind, problem }, types) {
  const found = kind === 'text' || kind === 'unknown' ? t(`kind_${kind}`) : kind;
  // The detail is the extension of the name, if that of a picture.
  if (problem.detail && kind === 'text') return t('wrong_type_disguised', { found, name: problem.detail, types });
  return kind === 'unknown' ? t('wrong_type', { types }) : t('wrong_type_named', { found, types });
}
