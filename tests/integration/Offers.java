import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.stream.IntStream;

/** Posts to a URL with the JDK's own client and its defaults, which offer h2c; prints status, HTTP version and body. */
public class Offers {
    public static void main(String[] arguments) throws Exception {
        String text = "good film ".repeat(Integer.parseInt(arguments[1])).strip();
        byte[] body = ("{\"inputs\":\"" + text + "\",\"truncate\":true}").getBytes(StandardCharsets.UTF_8);
        HttpClient client = HttpClient.newHttpClient();
        var known = BodyPublishers.ofByteArray(body);
        var chunked = BodyPublishers.ofByteArrays(List.of(body));
        for (var publisher : List.of(known, chunked)) {
            HttpRequest request = HttpRequest.newBuilder(URI.create(arguments[0]))
                .header("Content-Type", "application/json")
                .expectContinue(arguments.length > 2)
                .POST(publisher)
                .build();
            var together = IntStream.range(0, 4)
                .mapToObj(n -> client.sendAsync(request, BodyHandlers.ofString()))
                .toList();
            for (var one : together) {
                var answer = one.get();
                System.out.println(answer.statusCode() + " " + answer.version() + " " + answer.body());
            }
        }
    }
}
