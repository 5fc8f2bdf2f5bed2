import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Client } from 'pg';
import { createTestDatabase } from '../support/database';
import { dumpSchema } from './dump';

test('U4 the migrations add up to the schema that was reviewed: storage/schema.sql', async () => {
  const database = await createTestDatabase();
  const admin = new Client({ connectionString: database.adminUrl });
  await admin.connect();
  let dump: string;
  try {
    dump = await dumpSchema(admin);
  } finally {
    await admin.end();
    await database.drop();
  }
  const file = join(__dirname, '..', '..', 'storage', 'schema.sql');
  if (process.env['UPDATE_SCHEMA']) await writeFile(file, dump);
  expect(dump).toBe(await readFile(file, 'utf8'));
});
