import java.lang.reflect.Method;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * One node of Elasticsearch or of OpenSearch: {@code SingleNode elasticsearch|opensearch LIBRARIES HOME PORT}.
 * Their own starters want a distribution around them, and another user than root. All is called by
 * reflection: their classes are for newer Java than the compiler's may be.
 */
public final class SingleNode {
    private static String root;
    private static ClassLoader loader;

    public static void main(String[] words) throws Exception {
        String name = words[0];
        boolean elastic = name.equals("elasticsearch");
        root = "org." + name + ".";
        Path home = Path.of(words[2]);
        Path http = Files.createDirectories(home.resolve("modules/transport-netty4"));
        loader = libraries(Path.of(words[1]), http);
        Thread.currentThread().setContextClassLoader(loader);
        describe(http, name, elastic ? "transport.netty4.Netty4Plugin" : "transport.Netty4ModulePlugin");

        if (elastic) {
            call("common.logging.LogConfigurator", "configureESLogging");
        }
        Object environment = type("env.Environment")
            .getConstructor(type("common.settings.Settings"), Path.class)
            .newInstance(settings(home, words[3]), home.resolve("config"));
        Class<?> node = type("node.Node");
        Object made;
        if (elastic) {
            String plugins = "plugins.PluginsLoader";
            Object modules = call(plugins, "loadModulesBundles", home.resolve("modules"), true);
            Object all = call(plugins, "createPluginsLoader", modules, Set.of(), Map.of(), false);
            made = node.getConstructor(environment.getClass(), all.getClass()).newInstance(environment, all);
        } else {
            made = node.getConstructor(environment.getClass()).newInstance(environment);
        }
        node.getMethod("start").invoke(made);
        Thread.currentThread().join();
    }

    /** What HTTP comes with goes into its module's folder, the rest is the server. */
    private static ClassLoader libraries(Path from, Path http) throws Exception {
        List<URL> server = new ArrayList<>();
        try (DirectoryStream<Path> jars = Files.newDirectoryStream(from, "*.jar")) {
            for (Path jar : jars) {
                Path file = jar.getFileName();
                if (file.toString().contains("netty")) {
                    Files.createSymbolicLink(http.resolve(file), jar);
                } else {
                    server.add(jar.toUri().toURL());
                }
            }
        }
        return new URLClassLoader(server.toArray(URL[]::new));
    }

    private static void describe(Path module, String server, String plugin) throws Exception {
        Object version = type("Version").getField("CURRENT").get(null);
        List<String> lines = List.of(
            "name=transport-netty4",
            "description=HTTP",
            "version=" + version,
            server + ".version=" + version,
            "java.version=17",
            "classname=" + root + plugin);
        Files.write(module.resolve("plugin-descriptor.properties"), lines);
    }

    private static Object settings(Path home, String port) throws Exception {
        Object builder = call("common.settings.Settings", "builder");
        Method put = builder.getClass().getMethod("put", String.class, String.class);
        Map<String, String> settings = Map.of(
            "path.home", home.toString(),
            "node.name", "live",
            "discovery.type", "single-node",
            "network.host", "127.0.0.1",
            "http.port", port,
            "transport.port", "0",
            "cluster.routing.allocation.disk.threshold_enabled", "false");
        for (Map.Entry<String, String> setting : settings.entrySet()) {
            put.invoke(builder, setting.getKey(), setting.getValue());
        }
        return builder.getClass().getMethod("build").invoke(builder);
    }

    private static Class<?> type(String name) throws ClassNotFoundException {
        return Class.forName(root + name, true, loader);
    }

    private static Object call(String name, String method, Object... arguments) throws Exception {
        for (Method one : type(name).getMethods()) {
            if (one.getName().equals(method) && one.getParameterCount() == arguments.length) {
                return one.invoke(null, arguments);
            }
        }
        throw new NoSuchMethodException(name + '.' + method);
    }
}
