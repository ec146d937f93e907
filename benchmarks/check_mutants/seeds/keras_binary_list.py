import keras

model = keras.Sequential(
    [
        keras.layers.Dense(16, activation="relu"),
        keras.layers.Dense(16, activation="relu"),
        keras.layers.Dense(1, activation="sigmoid"),
    ]
)
model.compile(loss=keras.losses.BinaryCrossentropy(from_logits=False), optimizer=keras.optimizers.SGD(learning_rate=0.01, momentum=0.9))
model.fit(keras.random.normal((256, 8)), keras.random.randint((256, 1), 0, 2), epochs=3)
