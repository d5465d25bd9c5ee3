<?php
// Makes a request's calls, in the shape that its path begins with, by curl, Redis' and PostgreSQL's
// extensions.
[, $shape, $id] = explode('/', $_SERVER['REQUEST_URI']);

function ask(string $call): void
{
    $curl = curl_init("http://127.0.0.1:{$_SERVER['LEAF']}/leaf/$call");
    curl_setopt($curl, CURLOPT_RETURNTRANSFER, true);
    if (curl_exec($curl) === false || curl_getinfo($curl, CURLINFO_RESPONSE_CODE) !== 200) {
        throw new Exception(curl_error($curl));
    }
}

switch ($shape) {
    case 'direct':
        ask("call-$id-0");
        break;
    case 'sleep':
        for ($which = 0; $which < 2; $which++) {
            usleep(random_int(1000, 20000));
            ask("call-$id-$which");
        }
        break;
    case 'redis':
        $redis = new Redis();
        // Kept for the next request.
        $redis->pconnect('127.0.0.1', (int) $_SERVER['REDIS']);
        $redis->get("call-$id-0");
        $redis->get("call-$id-1");
        break;
    case 'sql':
        $where = "pgsql:host=127.0.0.1;port={$_SERVER['POSTGRES']};dbname=shop;sslmode=disable";
        $database = new PDO($where, 'app', null, [PDO::ATTR_PERSISTENT => true]);
        $database->query("SELECT 'call-$id-0'")->fetchAll();
        break;
}
echo "front\n";
