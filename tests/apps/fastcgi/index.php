<?php
// What the live tests of FastCGI ask for, by path.
switch (strtok($_SERVER['REQUEST_URI'], '?')) {
    case '/hello':
        echo 'hello';
        break;
    case '/upload':
        echo strlen(file_get_contents('php://input'));
        break;
    case '/large':
        header('Content-Length: 3145728');
        echo str_repeat('x', 3 << 20);
        break;
    case '/broken':
        broken();
        break;
    case '/slow':
        usleep(100000);
        echo 'late';
        break;
    default:
        http_response_code(404);
        echo 'missing';
}
