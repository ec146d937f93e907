from tensorflow import keras
from tensorflow.keras import layers

(x_train, y_train), (x_test, y_test) = keras.datasets.imdb.load_data(num_words=10_000)
x_train = keras.utils.pad_sequences(x_train, maxlen=200)

model = keras.Sequential()
model.add(layers.Embedding(10_000, 32))
model.add(layers.LSTM(32))
model.add(layers.Dense(1, activation="sigmoid"))
model.compile(optimizer="rmsprop", loss="binary_crossentropy", metrics=["accuracy"])
history = model.fit(x_train, y_train, epochs=4, batch_size=128)
